"""What a tuning learns from: corrections, and the model's own opinion of everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..losses import class_weights, soft_cross_entropy
from .fields import CorrectedField

__all__ = ["Targets", "held_shares"]

BALANCE = 0.5
"""How far classes that are seen in few places catch up with the others, see `class_weights`."""

REGION_ONLY_WEIGHT = 0.5
"""Of the region-only head's loss beside that of the head that reads context."""

ENOUGH = 0.6
"""Probability of its class from which on a correction asks for no more. What is pushed on to
certainty takes along whatever looks remotely like it."""

OPINION = 0.2
"""What the model's probabilities count, in all that is held, beside its classes. Probabilities
alone hold no class: where they lie near a half, as on slides of another laboratory, hardly any of
them has to move for a quarter of a slide to change class."""

CLEAR = 0.5
"""By how much the logit of a held class is to lead the next one, where it led by that before."""

FIRM = 0.9
"""Share from which on a region is held to its class as well. Those that are held less look like a
correction: nothing but the probabilities of the others keeps them."""

ALIKE = 0.9
"""Squared distance, of a mean of 2 between any two regions of a slide, at which a region that looks
like a corrected one is held to its old class half as much as the others. On sample slides those
of the corrected class lie at 0.4 to 0.9, nine tenths of all others above 1.05."""

APART = (1.0, 2.5)
"""Density of corrected regions around a region over that of its old class: up to the first number
the region is like any other of the class, from the second on it is like the corrected ones. On
sample slides it is 0.3 to 1.4 where regions of a class were corrected that look like its others,
and 1.8 to 5 among those that were taken for a class to which they do not belong."""

MOST_COMPARED = 512
"""Regions, corrected ones and others, that each is compared with."""


@dataclass(frozen=True)
class Targets:
    """What n regions are to be.

    Attributes:
        soft: (n, C) class shares of what was corrected; zeros elsewhere.
        weights: (n,) what each correction counts, 0 elsewhere.
        before: (n, C) probabilities that the model gave, with context.
        before_alone: (n, C) those of its region-only head.
        held: (n,) how much each region is held to them.
        firm: (n,) how much it is held to the class that it had.
    """

    soft: Tensor
    weights: Tensor
    before: Tensor
    before_alone: Tensor
    held: Tensor
    firm: Tensor

    @classmethod
    def of(cls, fields: Sequence[CorrectedField], device: torch.device) -> Targets:
        """Targets of all regions of some slides, one slide after another.

        Rare classes count more, among the corrections and among what is kept.
        """
        soft = torch.from_numpy(np.concatenate([one.view.soft for one in fields]))
        weights = torch.from_numpy(np.concatenate([one.view.weights for one in fields]))
        by_class = class_weights(soft, weights, BALANCE)
        weights = weights * (soft * by_class).sum(dim=1)

        def probabilities(logits: list[npt.NDArray[np.float32]]) -> Tensor:
            return torch.from_numpy(np.concatenate(logits)).softmax(dim=1)

        before = probabilities([one.logits for one in fields])
        held = torch.from_numpy(np.concatenate([held_shares(one) for one in fields]))
        firm = held >= FIRM
        if held.any():
            held = held * (before * class_weights(before, held, BALANCE)).sum(dim=1)

        found = (
            torch.where(weights[:, None] > 0, soft, 0.0),
            weights,
            before,
            probabilities([one.region_only_logits for one in fields]),
            held,
            held * firm,
        )
        return cls(*(part.to(device) for part in found))

    def __getitem__(self, rows: Tensor) -> Targets:
        parts = (self.soft, self.weights, self.before, self.before_alone, self.held, self.firm)
        return Targets(*(part[rows] for part in parts))

    def loss(self, both: tuple[Tensor, Tensor], keep: float) -> Tensor:
        """Cross entropy against the corrections, and what leaving the other opinions costs.

        Args:
            both: (n, C) logits with context and of the region-only head.
            keep: Weight of the second.
        """
        total = self.soft.new_zeros(())
        heads = zip(both, (self.before, self.before_alone), (1.0, REGION_ONLY_WEIGHT), strict=True)
        for logits, before, weight in heads:
            part = self._wrong(logits)
            if keep:
                part = part + keep * self._left(logits, before)
            total = total + weight * part
        return total

    def _wrong(self, logits: Tensor) -> Tensor:
        """Cross entropy of the corrections that do not hold clearly enough."""
        logs = F.log_softmax(logits, dim=1)
        right = logs.gather(1, self.soft.argmax(dim=1, keepdim=True))[:, 0].exp()
        loss = -(self.soft * logs).sum(dim=1) * (right.detach() < ENOUGH)
        return _mean(loss, self.weights)

    def _left(self, logits: Tensor, before: Tensor) -> Tensor:
        """How far the others are from their probabilities, and from the class that they had."""
        one = self.soft.new_ones(self.soft.shape[1])
        opinion = soft_cross_entropy(logits, before, self.held, one)
        label = before.argmax(dim=1, keepdim=True)
        led = _lead(before.clamp_min(torch.finfo(before.dtype).tiny).log(), label)
        short = F.relu(led.clamp_max(CLEAR) - _lead(logits, label))
        return OPINION * opinion + _mean(short, self.firm)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of (n,) values by (n,) weights; 0 where all of these are."""
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


def _lead(logits: Tensor, label: Tensor) -> Tensor:
    """(n,) by how much the logits of (n, 1) labels lead the next ones."""
    others = logits.scatter(1, label, -torch.inf).max(dim=1).values
    return logits.gather(1, label)[:, 0] - others


def held_shares(field: CorrectedField) -> npt.NDArray[np.float32]:
    """How much each region is held to what the model said of it, (N,) float32, 0 to 1.

    A corrected region is not. Nor is one that looks like a region that the model was wrong about
    and was given the same class, and less like the rest of that class: nobody corrects all of a
    tumour by hand. Where the corrected regions look like the rest of their old class, nothing says
    that it was wrong elsewhere, and it is held: else a single class that is painted would take the
    place of another.
    """
    held = np.where(field.corrected, 0.0, 1.0).astype(np.float32)
    said = field.logits.argmax(axis=1)
    wrong = np.flatnonzero(field.corrected & (said != field.true))
    if not len(wrong):
        return held
    looks = torch.from_numpy(_looks(field))
    for label in np.unique(said[wrong]):
        rows = np.flatnonzero((said == label) & ~field.corrected)
        corrected = _spaced(wrong[said[wrong] == label])
        usual = _spaced(rows)
        for part in np.array_split(rows, max(1, len(rows) // 4096)):
            if len(part):
                held[part] = 1.0 - _like(looks, part, corrected, usual)
    return held


def _like(
    looks: Tensor,
    rows: npt.NDArray[np.int64],
    corrected: npt.NDArray[np.int64],
    usual: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """How much regions look like the corrected ones of their class and not like the rest, 0 to 1.

    Args:
        looks: (N, .) as of `_looks`.
        rows: (n,) regions of one class.
        corrected: (m,) those of this class that were corrected.
        usual: (u,) others of this class.
    """
    near = _alike(looks[rows], looks[corrected])
    among = _alike(looks[rows], looks[usual])
    itself = torch.from_numpy(rows[:, None] == usual[None])
    there = (~itself).sum(dim=1)
    density = among.masked_fill(itself, 0.0).sum(dim=1) / there.clamp_min(1)
    times = near.mean(dim=1) / density.clamp_min(torch.finfo(density.dtype).tiny)
    low, high = APART
    apart = ((times - low) / (high - low)).clamp(0.0, 1.0)
    return np.asarray((near.max(dim=1).values * apart).numpy(), np.float32)


def _alike(some: Tensor, others: Tensor) -> Tensor:
    """(n, m) 1 for regions that look the same, a half at `ALIKE`, 0 far beyond."""
    return torch.exp2(-((torch.cdist(some, others) ** 2 / ALIKE) ** 2))


def _spaced(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """At most `MOST_COMPARED` of them, from all over the slides."""
    if len(rows) <= MOST_COMPARED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_COMPARED).round().astype(np.int64)]


def _looks(field: CorrectedField) -> npt.NDArray[np.float32]:
    """(N, .) what a region shows and what lies around it, in units of the slide's own spread."""
    own = field.view.tokens.mean(axis=1)
    parts = []
    for values in (own, field.context_tokens):
        spread = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        parts.append(values / np.sqrt(2 * values.shape[1]))
    return np.concatenate(parts, axis=1).astype(np.float32)
