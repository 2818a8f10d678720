"""Every context encoder against its formula, written out token by token in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from xt_backend.model import build_context
from xt_backend.model.context import selective_scan as selective_scan_module
from xt_backend.model.context.hyper import hyper_attention
from xt_backend.model.context.mamba import MambaMixer
from xt_backend.model.context.selective_scan import selective_scan
from xt_backend.model.context.ssd import ssd

Array = np.ndarray[Any, np.dtype[np.float64]]
EPS = 1e-5


def weights(module: torch.nn.Module) -> dict[str, Array]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def noisy(context: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(9)
    context.double().eval()
    with torch.no_grad():
        for parameter in context.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator).double()
    return context


def layer_norm(x: Array, w: dict[str, Array], name: str) -> Array:
    centred = x - x.mean()
    scaled = centred / math.sqrt((centred**2).mean() + EPS)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms_norm(x: Array, gain: Array) -> Array:
    return x / math.sqrt((x**2).mean() + EPS) * gain


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    exps = [math.exp(score - top) for score in scores]
    return [value / sum(exps) for value in exps]


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def feed_forward(x: Array, w: dict[str, Array], name: str) -> Array:
    hidden = w[f"{name}.up.weight"] @ layer_norm(x, w, f"{name}.norm") + w[f"{name}.up.bias"]
    hidden = np.array([0.5 * h * (1 + math.erf(h / math.sqrt(2))) for h in hidden])
    return x + w[f"{name}.down.weight"] @ hidden + w[f"{name}.down.bias"]


def positions(dim: int, places: Array) -> Array:
    waves = dim // 4
    out = np.zeros((len(places), dim))
    for i, place in enumerate(places):
        for axis in range(2):
            for n in range(waves):
                length = 256.0 * 256.0 ** (n / max(waves - 1, 1))
                phase = 2 * math.pi * place[axis] / length
                out[i, 2 * axis * waves + n] = math.sin(phase)
                out[i, (2 * axis + 1) * waves + n] = math.cos(phase)
    return out


def grid(length: int, cols: int) -> Array:
    return np.array([[128.0 * (i % cols), 128.0 * (i // cols)] for i in range(length)])


def run(context: torch.nn.Module, x: Array, places: Array) -> Array:
    with torch.no_grad():
        out = context(torch.from_numpy(x)[None], torch.from_numpy(places)[None])
    return np.asarray(out[0])


def reading(places: Array, columns: bool, backward: bool) -> list[int]:
    order = sorted(
        range(len(places)),
        key=lambda i: (places[i][0], places[i][1]) if columns else (places[i][1], places[i][0]),
    )
    return order[::-1] if backward else order


def turned(x: Array, place: Array, heads: int) -> Array:
    """Rotary positions: wave n of a head is wave n * heads + head of all."""
    size = len(x) // heads
    waves = size // 4
    out = x.copy()
    for head in range(heads):
        for axis in range(2):
            for n in range(waves):
                number = (n * heads + head) / max(waves * heads - 1, 1)
                phase = 2 * math.pi * place[axis] / (256.0 * 256.0**number)
                a = head * size + 2 * axis * waves + n
                b = a + waves
                out[a] = x[a] * math.cos(phase) - x[b] * math.sin(phase)
                out[b] = x[a] * math.sin(phase) + x[b] * math.cos(phase)
    return out


def slow_attention(
    w: dict[str, Array], x: Array, heads: int, layers: int, places: Array | None
) -> Array:
    length, dim = x.shape
    size = dim // heads
    for layer in range(layers):
        b = f"blocks.{layer}"
        normed = [layer_norm(token, w, f"{b}.norm") for token in x]
        qkv = [w[f"{b}.qkv.weight"] @ token + w[f"{b}.qkv.bias"] for token in normed]
        if places is not None:
            for token, place in zip(qkv, places, strict=True):
                token[:dim] = turned(token[:dim], place, heads)
                token[dim : 2 * dim] = turned(token[dim : 2 * dim], place, heads)
        mixed = np.zeros_like(x)
        for i in range(length):
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                scores = [
                    float(qkv[i][:dim][part] @ qkv[j][dim : 2 * dim][part]) / math.sqrt(size)
                    for j in range(length)
                ]
                for j, share in enumerate(softmax(scores)):
                    mixed[i, part] += share * qkv[j][2 * dim :][part]
        x = np.stack(
            [
                feed_forward(
                    x[i] + w[f"{b}.out.weight"] @ mixed[i] + w[f"{b}.out.bias"],
                    w,
                    f"{b}.feed_forward",
                )
                for i in range(length)
            ]
        )
    return np.stack([layer_norm(token, w, "norm") for token in x])


@pytest.mark.parametrize("kind", ["rotary", "sincos", "none"])
@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_attention(heads: int, length: int, kind: str) -> None:
    dim = 6 * heads  # no multiple of four: two channels of each head are not turned
    context = noisy(build_context("attention", dim, 2, heads=heads, positions=kind))
    x = np.random.default_rng(length).normal(size=(length, dim))
    places = grid(length, 3)
    start = x + positions(dim, places) if kind == "sincos" else x
    slow = slow_attention(weights(context), start, heads, 2, places if kind == "rotary" else None)
    assert np.abs(run(context, x, places) - slow).max() < 1e-10


def slow_mamba_block(
    w: dict[str, Array], b: str, x: Array, inner: int, state: int, heads: int
) -> Array:
    size = inner // heads
    taps = len(w[f"{b}.conv_weight"])
    past = [np.zeros(inner + 2 * state) for _ in range(taps)]
    h = np.zeros((heads, size, state))
    out = []
    for token in x:
        projected = w[f"{b}.in_proj.weight"] @ rms_norm(token, w[f"{b}.norm.weight"])
        gate = projected[:inner]
        past = [*past[1:], projected[inner : 2 * inner + 2 * state]]
        signal = w[f"{b}.conv_bias"] + sum(
            w[f"{b}.conv_weight"][tap] * past[tap] for tap in range(taps)
        )
        signal = silu(signal)
        value, write, read = np.split(signal, [inner, inner + state])
        y = np.zeros(inner)
        for head in range(heads):
            raw = projected[2 * inner + 2 * state + head] + w[f"{b}.step_bias"][head]
            step = math.log1p(math.exp(raw))
            decay = math.exp(-step * math.exp(w[f"{b}.decay_log"][head]))
            for p in range(size):
                v = value[head * size + p]
                for s in range(state):
                    h[head, p, s] = decay * h[head, p, s] + step * v * write[s]
                y[head * size + p] = h[head, p] @ read + w[f"{b}.skip"][head] * v
        y = rms_norm(y * silu(gate), w[f"{b}.out_norm.weight"])
        out.append(token + w[f"{b}.out_proj.weight"] @ y)
    return np.stack(out)


@pytest.mark.parametrize("order", ["raster", "columns", "alternate"])
@pytest.mark.parametrize(
    ("length", "chunk", "segment"), [(1, 4, 8), (2, 1, 1), (13, 4, 6), (13, 64, 1024), (9, 5, 5)]
)
def test_mamba2(order: str, length: int, chunk: int, segment: int) -> None:
    layers, heads, state = 4, 2, 3
    context = noisy(
        build_context(
            "mamba2", 8, layers, state=state, head_dim=8, chunk=chunk, segment=segment, order=order
        )
    )
    w = weights(context)
    x = np.random.default_rng(length).normal(size=(length, 8))
    places = grid(length, 4)
    ways = {
        "raster": [(False, True), (False, False), (False, True), (False, False)],
        "columns": [(True, True), (True, False), (True, True), (True, False)],
        "alternate": [(True, False), (False, True), (True, True), (False, False)],
    }[order]
    slow = x + positions(8, places)
    for layer, (columns, backward) in enumerate(ways):
        read = reading(places, columns, backward)
        slow[read] = slow_mamba_block(w, f"blocks.{layer}", slow[read], 16, state, heads)
    slow = np.stack([layer_norm(token, w, "norm") for token in slow])
    assert np.abs(run(context, x, places) - slow).max() < 1e-10


def slow_mamba1_block(w: dict[str, Array], b: str, x: Array, state: int) -> Array:
    m = f"{b}.mixer"
    inner, rank = w[f"{m}.dt_proj.weight"].shape
    kernel = w[f"{m}.conv1d.weight"][:, 0]
    past = [np.zeros(inner) for _ in range(kernel.shape[1])]
    h = np.zeros((inner, state))
    out = []
    for token in x:
        signal, gate = np.split(
            w[f"{m}.in_proj.weight"] @ rms_norm(token, w[f"{b}.norm.weight"]), 2
        )
        past = [*past[1:], signal]
        signal = silu(
            w[f"{m}.conv1d.bias"] + sum(kernel[:, tap] * past[tap] for tap in range(len(past)))
        )
        low, write, read = np.split(w[f"{m}.x_proj.weight"] @ signal, [rank, rank + state])
        step = np.log1p(np.exp(w[f"{m}.dt_proj.weight"] @ low + w[f"{m}.dt_proj.bias"]))
        y = np.zeros(inner)
        for d in range(inner):
            for s in range(state):
                fade = math.exp(-step[d] * math.exp(w[f"{m}.A_log"][d, s]))
                h[d, s] = fade * h[d, s] + step[d] * signal[d] * write[s]
            y[d] = h[d] @ read + w[f"{m}.D"][d] * signal[d]
        out.append(token + w[f"{m}.out_proj.weight"] @ (y * silu(gate)))
    return np.stack(out)


@pytest.mark.parametrize(("length", "segment"), [(1, 8), (2, 1), (13, 6), (13, 1024)])
@pytest.mark.parametrize("slab_values", [1, 40, 2**17])
def test_mamba(
    length: int, segment: int, slab_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selective_scan_module, "SLAB_VALUES", slab_values)
    context = noisy(build_context("mamba", 8, 2, state=3, segment=segment, order="raster"))
    w = weights(context)
    x = np.random.default_rng(length).normal(size=(length, 8))
    places = grid(length, 4)
    slow = x + positions(8, places)
    for layer, backward in enumerate((True, False)):
        read = reading(places, False, backward)
        slow[read] = slow_mamba1_block(w, f"blocks.{layer}", slow[read], 3)
    slow = np.stack([layer_norm(token, w, "norm") for token in slow])
    assert np.abs(run(context, x, places) - slow).max() < 1e-10


@pytest.mark.parametrize("slab_values", [1, 50, 2**17])
def test_gradients_of_the_scan_are_those_of_the_recurrence(
    slab_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selective_scan_module, "SLAB_VALUES", slab_values)
    g = torch.Generator().manual_seed(3)
    batch, length, channels, states = 2, 11, 4, 3
    shapes = [(batch, length, channels)] * 2 + [(states, channels)] + [(batch, length, states)] * 2
    values = [torch.randn(shape, generator=g).double() for shape in [*shapes, (batch, 3, 4)]]
    values[1], values[2] = values[1].abs(), -values[2].abs()
    inputs, steps, decay, write, read, state = values = [v.requires_grad_() for v in values]

    def loss(outputs: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        return outputs.sin().sum() + last.square().sum()

    h, outputs = state, []
    for t in range(length):
        driven = (steps[:, t] * inputs[:, t])[:, None] * write[:, t, :, None]
        h = torch.exp(steps[:, t, None] * decay) * h + driven
        outputs.append((read[:, t, :, None] * h).sum(dim=1))
    slow = torch.autograd.grad(loss(torch.stack(outputs, 1), h), values)
    fast = torch.autograd.grad(loss(*selective_scan(*values)), values)
    for a, b in zip(slow, fast, strict=True):
        assert (a - b).abs().max() < 1e-9 * (1 + a.abs().max())


def test_mamba_mixer_equals_another_implementation() -> None:
    """mambapy's block, which has the same parameter names."""
    mamba = pytest.importorskip("mambapy.mamba")
    config = mamba.MambaConfig(d_model=16, n_layers=1, d_state=4)
    theirs = mamba.MambaBlock(config)
    ours = MambaMixer(16, state=4, inner=32, conv=4, step_rank=config.dt_rank)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, 37, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (ours(tokens)[0] - theirs(tokens)).abs().max() < 1e-5


def slow_hyper(
    query: Array, key: Array, value: Array, directions: Array, sampled: list[int], block: int
) -> Array:
    """One head, query after query."""

    def bucket(vector: Array) -> int:
        found = turned = 0
        for side in vector @ directions > 0:
            turned ^= int(side)
            found = 2 * found + turned
        return found

    length, size = query.shape
    by_query = sorted(range(length), key=lambda i: bucket(query[i]))
    by_key = sorted(range(length), key=lambda i: bucket(key[i]))
    out = np.zeros_like(query)
    for rank, i in enumerate(by_query):
        first = rank // block * block
        near = by_key[first : first + block]
        others = [j for j in sampled if j not in near]
        # A sampled key stands for as many others as there are to each.
        scores = [float(query[i] @ key[j]) / math.sqrt(size) for j in near]
        scores += [
            float(query[i] @ key[j]) / math.sqrt(size)
            + math.log((length - len(near)) / len(others))
            for j in others
        ]
        for share, j in zip(softmax(scores), [*near, *others], strict=True):
            out[i] += share * value[j]
    return out


@pytest.mark.parametrize(("length", "block", "samples"), [(23, 4, 6), (16, 8, 3), (9, 16, 2)])
def test_hyper_attention(length: int, block: int, samples: int) -> None:
    g = torch.Generator().manual_seed(length)
    query, key, value = torch.randn(3, 2, 2, length, 6, generator=g).double()
    directions = torch.randn(2, 6, 3, generator=g).double()
    sampled = torch.randint(length, (samples,), generator=g)
    found = hyper_attention(query, key, value, directions=directions, sampled=sampled, block=block)
    for b in range(2):
        for h in range(2):
            slow = slow_hyper(
                query[b, h].numpy(),
                key[b, h].numpy(),
                value[b, h].numpy(),
                directions[h].numpy(),
                sampled.tolist(),
                block,
            )
            assert np.abs(found[b, h].numpy() - slow).max() < 1e-12


def test_hyper_comes_close_to_attention_where_keys_cluster() -> None:
    """Long fields are estimated: near the truth on average, and unlike a plain block."""
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 16, generator=g) * 2
    which = torch.randint(8, (1, 1, 2048), generator=g)
    key = centres[which] + 0.3 * torch.randn(1, 1, 2048, 16, generator=g)
    query = centres[which.flip(2)] + 0.3 * torch.randn(1, 1, 2048, 16, generator=g)
    value = torch.randn(1, 1, 2048, 16, generator=g) + centres[which]
    exact = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    found = hyper_attention(
        query,
        key,
        value,
        directions=torch.randn(1, 16, 8, generator=g),
        sampled=torch.arange(4, 2048, 8),
        block=128,
    )
    assert (found - exact).norm() < 0.15 * exact.norm()


def test_short_fields_of_hyper_are_exact() -> None:
    hyper = noisy(build_context("hyper", 12, 2))
    attention = build_context("attention", 12, 2).double().eval()
    state = {k: v for k, v in hyper.state_dict().items() if k[:4] not in ("hash", "samp")}
    attention.load_state_dict(state)
    x = np.random.default_rng(2).normal(size=(40, 12))
    assert np.array_equal(run(hyper, x, grid(40, 8)), run(attention, x, grid(40, 8)))


@pytest.mark.parametrize("length", [1, 3, 8, 21])
@pytest.mark.parametrize("chunk", [1, 4, 8])
def test_ssd_is_the_recurrence(length: int, chunk: int) -> None:
    g = torch.Generator().manual_seed(length)
    x = torch.randn(2, length, 3, 4, generator=g).double()
    steps = torch.rand(2, length, 3, generator=g).double() * 3
    decay = -torch.rand(3, generator=g).double() * 20
    write, read = torch.randn(2, 2, length, 5, generator=g).double()
    state = torch.randn(2, 3, 4, 5, generator=g).double()
    found, last = ssd(x, steps, decay, write, read, state, chunk)
    for t in range(length):
        keep = torch.exp(steps[:, t] * decay)[..., None, None]
        new = (steps[:, t, :, None] * x[:, t])[..., None] * write[:, t, None, None, :]
        state = keep * state + new
        assert ((state @ read[:, t, None, :, None])[..., 0] - found[:, t]).abs().max() < 1e-12
    assert (state - last).abs().max() < 1e-12


def slow_xl_block(
    w: dict[str, Array], b: str, x: Array, heads: int, segment: int, memory: int
) -> Array:
    length, dim = x.shape
    size = dim // heads
    half = (dim + 1) // 2
    normed = [layer_norm(token, w, f"{b}.norm") for token in x]
    q = [w[f"{b}.query.weight"] @ token for token in normed]
    kv = [w[f"{b}.key_value.weight"] @ token for token in normed]
    out = []
    for i in range(length):
        first = max(i // segment * segment - memory, 0)
        mixed = np.zeros(dim)
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            scores = []
            for j in range(first, i + 1):
                phase = [(i - j) / 10000 ** (n / half) for n in range(half)]
                wave = np.array([*map(math.sin, phase), *map(math.cos, phase)])[:dim]
                r = (w[f"{b}.distance.weight"] @ wave)[part]
                content = (q[i][part] + w[f"{b}.content_bias"][h]) @ kv[j][:dim][part]
                distance = (q[i][part] + w[f"{b}.distance_bias"][h]) @ r
                scores.append(float(content + distance) / math.sqrt(size))
            for j, share in zip(range(first, i + 1), softmax(scores), strict=True):
                mixed[part] += share * kv[j][dim:][part]
        token = x[i] + w[f"{b}.out.weight"] @ mixed
        out.append(feed_forward(token, w, f"{b}.feed_forward"))
    return np.stack(out)


@pytest.mark.parametrize(
    ("length", "segment", "memory", "heads", "dim"),
    [(1, 4, 4, 1, 8), (11, 4, 3, 2, 8), (9, 3, 7, 3, 15), (10, 5, 0, 2, 12), (6, 64, 64, 2, 8)],
)
@pytest.mark.parametrize("order", ["raster", "columns"])
def test_transformer_xl(
    length: int, segment: int, memory: int, heads: int, dim: int, order: str
) -> None:
    context = noisy(
        build_context(
            "transformer-xl", dim, 2, heads=heads, segment=segment, memory=memory, order=order
        )
    )
    w = weights(context)
    x = np.random.default_rng(length).normal(size=(length, dim))
    places = grid(length, 4)
    slow = x + positions(dim, places)
    for layer, backward in enumerate((True, False)):
        read = reading(places, order == "columns", backward)
        slow[read] = slow_xl_block(w, f"blocks.{layer}", slow[read], heads, segment, memory)
    slow = np.stack([layer_norm(token, w, "norm") for token in slow])
    assert np.abs(run(context, x, places) - slow).max() < 1e-10


def test_memory_carries_no_gradient_in_training_and_all_influence_in_eval() -> None:
    context = noisy(build_context("transformer-xl", 8, 1, segment=4, memory=4, bidirectional=False))
    tokens = torch.randn(1, 8, 8, dtype=torch.float64, requires_grad=True)
    places = torch.from_numpy(grid(8, 8))[None]

    def influence() -> torch.Tensor:
        out = context(tokens, places)
        (grad,) = torch.autograd.grad(out[0, 7].square().sum(), tokens)
        return grad[0].abs().amax(1) > 0

    assert influence().tolist() == [True] * 8
    trained = context.train()(tokens, places)
    assert torch.equal(trained, context.eval()(tokens, places))
    context.train()
    assert influence().tolist() == [False] * 4 + [True] * 4


def test_reach_is_as_stated() -> None:
    context = noisy(
        build_context(
            "transformer-xl", 8, 2, segment=3, memory=2, order="raster", bidirectional=False
        )
    )
    tokens = torch.randn(1, 40, 8, dtype=torch.float64, requires_grad=True)
    places = torch.from_numpy(grid(40, 40))[None]
    furthest = 0
    for asked in range(20, 40):
        out = context(tokens, places)
        (grad,) = torch.autograd.grad(out[0, asked].square().sum(), tokens)
        first = int((grad[0].abs().amax(1) > 0).nonzero()[0])
        furthest = max(furthest, asked - first)
    assert context.reach_tokens == 8
    assert 5 <= furthest <= 8
