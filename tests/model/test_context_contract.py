"""What every context encoder promises, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from xt_backend.errors import ModelError, UsageError
from xt_backend.model import build_context, list_contexts
from xt_backend.model.context import base
from xt_backend.model.context.base import SequenceContext
from xt_backend.model.orders import ORDERS

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("none", {}),
    ("attention", {}),
    ("attention", {"heads": 3, "positions": "none"}),
    ("attention", {"heads": 1, "positions": "sincos"}),
    ("hyper", {}),
    ("hyper", {"exact": 2, "block": 4, "samples": 5, "hashes": 2, "heads": 2}),
    ("hyper", {"exact": 0, "block": 3, "samples": 2, "positions": "sincos"}),
    ("mamba", {}),
    ("mamba", {"segment": 7, "state": 5, "order": "alternate", "step_rank": 3}),
    ("mamba2", {"chunk": 4, "segment": 8, "state": 5}),
    ("mamba2", {"chunk": 4, "segment": 8, "order": "alternate", "head_dim": 6}),
    ("mamba2", {"order": "columns", "bidirectional": False}),
    ("mamba2", {"order": "serpentine", "segment": 7}),
    ("mamba2", {"order": "hilbert", "positions": "none"}),
    ("mamba", {"order": "alternate-serpentine"}),
    ("transformer-xl", {"segment": 5, "memory": 3}),
    ("transformer-xl", {"segment": 4, "memory": 9, "heads": 3, "order": "alternate"}),
]
IDS = [f"{kind}-{'-'.join(map(str, options.values()))}" for kind, options in KINDS]
DIM = 24


def make(kind: str, options: dict[str, Any], layers: int = 4) -> torch.nn.Module:
    context = build_context(kind, DIM, layers, **options).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in context.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.1 * noise
    return context


def lattice(rows: int, cols: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows * 100 + cols)
    tokens = torch.randn(batch, rows * cols, DIM, generator=generator, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    places = torch.stack([x, y], -1).reshape(1, -1, 2) * 128.0 + 700
    return tokens, places.expand(batch, -1, -1)


def test_names() -> None:
    kinds = ("attention", "hyper", "mamba", "mamba2", "none", "transformer-xl")
    assert list_contexts() == kinds


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=IDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 5), (1, 17), (6, 6)])
def test_shape_and_determinism(kind: str, options: dict[str, Any], shape: tuple[int, int]) -> None:
    tokens, places = lattice(*shape, batch=2)
    first = make(kind, options)(tokens, places)
    assert first.shape == tokens.shape
    assert first.isfinite().all()
    assert torch.equal(first, make(kind, options)(tokens, places))


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=IDS)
def test_empty_field_and_empty_batch(kind: str, options: dict[str, Any]) -> None:
    context = make(kind, options)
    for batch, length in ((1, 0), (0, 3), (3, 0)):
        tokens = torch.zeros(batch, length, DIM, dtype=torch.float64)
        mask = torch.zeros(batch, length, dtype=torch.bool)
        assert context(tokens, torch.zeros(batch, length, 2), mask).shape == tokens.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "options"), KINDS, ids=IDS)
def test_padded_batch_equals_each_field_alone(
    kind: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    context = make(kind, options).to(dtype)
    fields = [lattice(3, 5), lattice(2, 4), lattice(1, 1)]
    length = 15
    tokens = torch.full((4, length, DIM), torch.nan, dtype=dtype)
    places = torch.full((4, length, 2), torch.nan, dtype=torch.float64)
    mask = torch.ones(4, length, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    slots = []
    for row, (field, where) in enumerate(fields):
        # Padding lies anywhere, not only behind the field.
        slot = torch.randperm(length, generator=generator)[: field.shape[1]].sort().values
        tokens[row, slot], places[row, slot] = field[0].to(dtype), where[0].double()
        mask[row, slot] = False
        slots.append(slot)
    out = context(tokens, places, mask)
    for row, (field, where) in enumerate(fields):
        alone = context(field.to(dtype), where)[0]
        assert (out[row, slots[row]] - alone).abs().max() < 1e-5
    assert torch.equal(out[mask], torch.zeros_like(out[mask]))


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=IDS)
def test_order_of_the_input_does_not_matter(kind: str, options: dict[str, Any]) -> None:
    context = make(kind, options)
    tokens, places = lattice(4, 5)
    shuffle = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = context(tokens[:, shuffle], places[:, shuffle])
    assert (shuffled - context(tokens, places)[:, shuffle]).abs().max() < 1e-10


@pytest.mark.parametrize(("kind", "options"), KINDS[1:], ids=IDS[1:])
def test_four_layers_carry_influence_both_ways(kind: str, options: dict[str, Any]) -> None:
    context = make(kind, options)
    tokens, places = lattice(4, 5)
    tokens.requires_grad_()
    for asked in (0, 9, 19):
        (grad,) = torch.autograd.grad(context(tokens, places)[0, asked].square().sum(), tokens)
        seen = grad[0].abs().amax(1) > 0
        assert seen[:asked].any() or asked == 0
        if options.get("bidirectional", True):
            assert seen[asked + 1 :].any() or asked == 19
        if not options or (kind[:5] == "mamba" and options.get("bidirectional", True)):
            assert seen.all()


def test_none_gives_the_tokens_back() -> None:
    tokens, places = lattice(3, 3)
    context = make("none", {}, layers=0)
    assert torch.equal(context(tokens, places), tokens)
    assert not list(context.parameters())


@pytest.mark.parametrize(("kind", "options"), KINDS[1:], ids=IDS[1:])
def test_gradients_are_right(kind: str, options: dict[str, Any]) -> None:
    context = make(kind, options, layers=2)
    tokens, places = lattice(2, 3)
    inputs = (tokens.requires_grad_(), *context.parameters())
    assert torch.autograd.gradcheck(
        lambda tokens, *_: context(tokens, places), inputs, fast_mode=True, atol=1e-4
    )


@pytest.mark.parametrize(("kind", "options"), KINDS[1:], ids=IDS[1:])
def test_long_fields_are_learnt_from_alike_and_computed_twice(
    kind: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make(kind, {**options, "dropout": 0.2}, layers=2).train()
    calls = []
    context.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))

    def learnt() -> list[torch.Tensor]:
        calls.clear()
        tokens, positions_um = lattice(6, 6)
        tokens.requires_grad_()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            out = context(tokens, positions_um)
            found = torch.autograd.grad(out.square().sum(), [tokens, *context.parameters()])
        return [out.detach(), *found]

    kept = learnt()
    assert len(calls) == 1
    monkeypatch.setattr(base, "LONG_FIELD", 30)
    again = learnt()
    assert len(calls) == 2
    for one, other in zip(kept, again, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["attention", "hyper", "mamba", "mamba2", "transformer-xl"])
def test_positions_are_used_and_can_be_switched_off(kind: str) -> None:
    tokens, places = lattice(3, 3)
    far = places + torch.tensor([300.0, 500.0])
    placed, free = make(kind, {"positions": "sincos"}), make(kind, {"positions": "none"})
    assert (placed(tokens, places) - placed(tokens, far)).abs().max() > 1e-3
    assert torch.equal(free(tokens, places), free(tokens, far))


def test_rotary_positions_see_distances_only() -> None:
    tokens, places = lattice(3, 3)
    context = make("attention", {"positions": "rotary"})
    here = context(tokens, places)
    assert (context(tokens, places + torch.tensor([4e4, 9e3])) - here).abs().max() < 1e-9
    assert (context(tokens, places * 1.5) - here).abs().max() > 1e-3
    assert (context(tokens, places.flip(-1)) - here).abs().max() > 1e-3


def test_seeded_initialisation_leaves_the_global_state_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build_context("mamba2", 16, 2, generator=torch.Generator().manual_seed(1))
    same = build_context("mamba2", 16, 2, generator=torch.Generator().manual_seed(1))
    other = build_context("mamba2", 16, 2, generator=torch.Generator().manual_seed(2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )


class Cost(TorchDispatchMode):
    """Counts the values that are computed, and the largest tensor that is held."""

    def __init__(self) -> None:
        super().__init__()
        self.values = 0
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            # A view of what was given costs nothing.
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.values += tensor.numel()
                held = tensor.untyped_storage().nbytes() // tensor.itemsize
                self.largest = max(self.largest, held)
        if "scaled_dot_product" in str(func):  # its scores never show up as a tensor
            self.values += args[0].shape[:3].numel() * args[1].shape[2]
        return out


def _cost(context: torch.nn.Module, length: int) -> Cost:
    tokens = torch.zeros(1, length, DIM)
    places = torch.stack([torch.arange(length) % 64, torch.arange(length) // 64], -1) * 128.0
    with torch.inference_mode(), Cost() as cost:
        context(tokens, places[None])
    return cost


@pytest.mark.parametrize(
    ("kind", "options", "linear"),
    [
        ("hyper", {"exact": 0, "block": 32, "samples": 16, "heads": 2}, True),
        ("mamba", {"segment": 128, "state": 4}, True),
        ("mamba2", {"segment": 128, "chunk": 32, "state": 16}, True),
        ("transformer-xl", {"segment": 64, "memory": 64, "heads": 2}, True),
        ("attention", {"heads": 2}, False),
    ],
)
def test_cost_per_token(kind: str, options: dict[str, Any], linear: bool) -> None:
    context = build_context(kind, DIM, 2, **options).eval()
    short, long = _cost(context, 1024), _cost(context, 8192)
    growth = long.values / short.values
    assert (growth < 8.5) if linear else (growth > 20)
    if linear:
        # No intermediate of a whole field is wider than queries, keys and values together.
        assert long.largest <= 8192 * 3 * DIM


@pytest.mark.parametrize("order", ORDERS)
def test_directions(order: str) -> None:
    context = build_context("mamba2", 8, 4, order=order)
    assert isinstance(context, SequenceContext)
    ways = context.ways()
    assert ways[-1][2] is False
    assert [backward for _, _, backward in ways].count(True) == 2
    assert len(set(ways)) == (4 if order.startswith("alternate") else 2)
    one_way = build_context("mamba2", 8, 4, order=order, bidirectional=False)
    assert isinstance(one_way, SequenceContext)
    assert not any(backward for _, _, backward in one_way.ways())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_context("rwkv", 8, 1), "Options: attention, hyper, mamba, mamba2, none"),
        (lambda: build_context("attention", 8, 1, head=2), "Options: heads, mlp_ratio, dropout"),
        (lambda: build_context("attention", 10, 1, heads=4), "heads = 4 .* divisor of .* 10"),
        (lambda: build_context("attention", 8, 1, heads="4"), "wrong type"),
        (lambda: build_context("attention", 8, 0), "layers = 0"),
        (lambda: build_context("attention", 0, 1), "dimension 0"),
        (
            lambda: build_context("mamba2", 8, 1, order="spiral"),
            "raster, columns, serpentine, hilbert",
        ),
        (lambda: build_context("hyper", 8, 1, exact=5000), "exact = 5000 .* 0 to 4096"),
        (lambda: build_context("mamba", 8, 1, step_rank=0), "step_rank = 0"),
        (lambda: build_context("mamba2", 8, 1, head_dim=5), "head_dim = 5"),
        (lambda: build_context("mamba2", 8, 1, chunk=0), "chunk = 0"),
        (lambda: build_context("transformer-xl", 8, 1, segment=0), "segment = 0"),
        (lambda: build_context("mamba2", 8, 1, wavelengths_um=[9, 3]), "shortest first"),
        (lambda: build_context("mamba2", 8, 1, positions="learnt"), "sincos or none"),
        (lambda: build_context("attention", 8, 1, heads=4), "at least 4 channels"),
    ],
)
def test_bad_options_are_refused_by_name(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build()


@pytest.mark.parametrize("kind", ["none", "attention"])
def test_bad_fields_are_refused(kind: str) -> None:
    context = build_context(kind, 8, 1)
    tokens, places = torch.zeros(2, 3, 8), torch.zeros(2, 3, 2)
    with pytest.raises(UsageError, match="tokens must be"):
        context(torch.zeros(2, 3, 7), places)
    with pytest.raises(UsageError, match="positions_um must be"):
        context(tokens, torch.zeros(2, 4, 2))
    with pytest.raises(UsageError, match="must be bool"):
        context(tokens, places, torch.zeros(2, 3))
