"""The steps of a tuning, from the model's present weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xt_backend.errors import LossNotFiniteError
from xt_backend.model import XT

from ..augment import View, shift, turn
from ..batch import Batch, decode
from ..fit import CLIP_NORM, learning_rate_share
from .fields import CorrectedField
from .spec import TuneSpec
from .targets import Targets

__all__ = ["fit", "usual_steps"]

HEAD_STEPS, CONTEXT_STEPS = 600, 16
HEAD_LR, CONTEXT_LR = 6e-3, 5e-4
CORRECTED_AT_ONCE, HELD_AT_ONCE = 256, 768
JITTER = 0.1
"""Noise on what heads read, in units of its spread."""

TOKENS_AT_ONCE = 2048
"""Of the neighbourhood of a correction that one step of the context encoder sees."""

WARM_UP = 0.1

Step: TypeAlias = Callable[[], Tensor]
"""Gives the loss of one step."""


def usual_steps(spec: TuneSpec) -> int:
    """Steps of a tuning: the context encoder learns after the heads have."""
    if spec.learns == "head":
        return spec.steps or HEAD_STEPS
    return HEAD_STEPS + (spec.steps or CONTEXT_STEPS)


def fit(model: XT, fields: Sequence[CorrectedField], spec: TuneSpec) -> Iterator[float]:
    """Tune a model in place.

    Args:
        model: At its present weights, in eval mode; in eval mode again at the end.
        fields: What was corrected.
        spec: What learns, how long, and how strongly everything else is kept.

    Yields:
        The loss of every step.

    Raises:
        LossNotFiniteError: The loss became NaN or infinite.
    """
    rng = np.random.default_rng(spec.seed)
    alone = spec.learns == "head"
    n = spec.steps if alone and spec.steps else HEAD_STEPS
    lr = spec.lr if alone and spec.lr else HEAD_LR
    heads = [*_heads(model)]
    yield from _descend(heads, _head_step(model, fields, spec, rng), n, lr)
    if alone:
        return
    mixing = [*heads, *model.reduce.project.parameters(), *model.context.parameters()]
    step = _context_step(model, fields, spec, rng)
    try:
        yield from _descend(mixing, step, spec.steps or CONTEXT_STEPS, spec.lr or CONTEXT_LR)
    finally:
        model.eval()


def _descend(
    parameters: Sequence[nn.Parameter], step: Step, n_steps: int, largest_lr: float
) -> Iterator[float]:
    optimizer = torch.optim.AdamW(parameters, lr=largest_lr, weight_decay=0.0)
    for number in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = largest_lr * learning_rate_share(number, n_steps, WARM_UP)
        optimizer.zero_grad(set_to_none=True)
        loss = step()
        value = loss.item()
        if not math.isfinite(value):
            raise LossNotFiniteError(
                f"The loss became {value} in step {number + 1}",
                "Use a smaller learning rate (lr in --config)",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        yield value


def _heads(model: XT) -> Iterator[nn.Parameter]:
    if model.region_head is not None:
        yield from model.region_head.parameters()
    yield from model.region_only_head.parameters()


def _head_step(
    model: XT, fields: Sequence[CorrectedField], spec: TuneSpec, rng: np.random.Generator
) -> Step:
    """Heads read what does not change: it is computed once."""
    head, alone = model.region_head, model.region_only_head
    if head is None:
        raise TypeError("tuning needs a model of task region")
    device = model.device
    inputs = []
    for parts in (
        [one.context_tokens for one in fields],
        [one.view.tokens.mean(axis=1) for one in fields],
    ):
        values = torch.from_numpy(np.concatenate(parts)).to(device)
        inputs.append((values, JITTER * values.std(dim=0)))
    targets = Targets.of(fields, device)
    corrected = np.flatnonzero(targets.weights.cpu().numpy() > 0)
    others = np.flatnonzero(targets.held.cpu().numpy() > 0)

    def step() -> Tensor:
        drawn = np.concatenate(
            [
                _some(corrected, CORRECTED_AT_ONCE, rng),
                _some(others, HELD_AT_ONCE, rng),
            ]
        )
        rows = torch.from_numpy(drawn).to(device)
        seen = []
        for values, spread in inputs:
            noise = rng.standard_normal((len(drawn), values.shape[1]), dtype=np.float32)
            seen.append(values[rows] + spread * torch.from_numpy(noise).to(device))
        logits = (head(seen[0][:, None]), alone(seen[1][:, None]))
        return targets[rows].loss(logits, spec.keep)

    return step


def _context_step(
    model: XT, fields: Sequence[CorrectedField], spec: TuneSpec, rng: np.random.Generator
) -> Step:
    """A slide, or the neighbourhood of a correction, turned anew in every step."""
    targets = [Targets.of([one], model.device) for one in fields]

    def step() -> Tensor:
        model.context.train()
        index = int(rng.integers(len(fields)))
        field = fields[index]
        rows = _neighbourhood(field, rng)
        whole = field.view
        view = View(
            whole.tokens[rows], whole.positions_um[rows], whole.soft[rows], whole.weights[rows]
        )
        batch = Batch.of([shift(turn(view, int(rng.integers(8))), rng)], model.device)
        kept = targets[index][torch.from_numpy(rows).to(model.device)]
        return kept.loss(decode(model, batch), spec.keep)

    return step


def _neighbourhood(field: CorrectedField, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of the regions around a corrected one, in reading order; all where they are few."""
    n = len(field.view)
    most = max(1, TOKENS_AT_ONCE // field.view.tokens.shape[1])
    if n <= most:
        return np.arange(n)
    places_um = field.view.positions_um
    middle = places_um[rng.choice(np.flatnonzero(field.corrected))]
    away = np.abs(places_um - middle).max(axis=1)
    return np.sort(np.argsort(away, kind="stable")[:most])


def _some(
    rows: npt.NDArray[np.int64], most: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    return rows if len(rows) <= most else rng.choice(rows, most, replace=False)
