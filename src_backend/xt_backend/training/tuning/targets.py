"""What a tuning learns from: corrections, and the model's own opinion of everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..losses import class_weights, soft_cross_entropy
from .fields import CorrectedField

__all__ = ["Targets", "held_shares"]

BALANCE = 0.5
"""How far classes that are seen in few places catch up with the others, see `class_weights`."""

REGION_ONLY_WEIGHT = 0.5
"""Of the region-only head's loss beside that of the head that reads context."""

ALIKE = 0.9
"""Squared distance, of a mean of 2 between any two regions of a slide, at which a region that looks
like a corrected one is held to its old class half as much as the others. On sample slides those
of the corrected class lie at 0.4 to 0.9, nine tenths of all others above 1.05."""

MOST_COMPARED = 512
"""Corrected regions that the others are compared with."""


@dataclass(frozen=True)
class Targets:
    """What n regions are to be.

    Attributes:
        soft: (n, C) class shares of what was corrected; zeros elsewhere.
        weights: (n,) what each correction counts, 0 elsewhere.
        before: (n, C) probabilities that the model gave, with context.
        before_alone: (n, C) those of its region-only head.
        held: (n,) how much each region is held to them.
    """

    soft: Tensor
    weights: Tensor
    before: Tensor
    before_alone: Tensor
    held: Tensor

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
        if held.any():
            held = held * (before * class_weights(before, held, BALANCE)).sum(dim=1)

        found = (
            torch.where(weights[:, None] > 0, soft, 0.0),
            weights,
            before,
            probabilities([one.region_only_logits for one in fields]),
            held,
        )
        return cls(*(part.to(device) for part in found))

    def __getitem__(self, rows: Tensor) -> Targets:
        parts = (self.soft, self.weights, self.before, self.before_alone, self.held)
        return Targets(*(part[rows] for part in parts))

    def loss(self, both: tuple[Tensor, Tensor], keep: float) -> Tensor:
        """Cross entropy against the corrections, and against what the model said elsewhere.

        Args:
            both: (n, C) logits with context and of the region-only head.
            keep: Weight of the second.
        """
        one = self.soft.new_ones(self.soft.shape[1])
        total = self.soft.new_zeros(())
        heads = zip(both, (self.before, self.before_alone), (1.0, REGION_ONLY_WEIGHT), strict=True)
        for logits, before, weight in heads:
            part = soft_cross_entropy(logits, self.soft, self.weights, one)
            if keep:
                part = part + keep * soft_cross_entropy(logits, before, self.held, one)
            total = total + weight * part
        return total


def held_shares(field: CorrectedField) -> npt.NDArray[np.float32]:
    """How much each region is held to what the model said of it, (N,) float32, 0 to 1.

    A corrected region is not. Nor is one that looks like a region that the model was wrong about
    and was given the same class: nobody corrects all of a tumour by hand.
    """
    held = np.where(field.corrected, 0.0, 1.0).astype(np.float32)
    said = field.logits.argmax(axis=1)
    wrong = np.flatnonzero(field.corrected & (said != field.true))
    if not len(wrong):
        return held
    if len(wrong) > MOST_COMPARED:
        wrong = wrong[np.linspace(0, len(wrong) - 1, MOST_COMPARED).round().astype(np.int64)]
    looks = torch.from_numpy(_looks(field))
    for label in np.unique(said[wrong]):
        rows = np.flatnonzero((said == label) & ~field.corrected)
        against = looks[torch.from_numpy(wrong[said[wrong] == label])]
        for part in np.array_split(rows, max(1, len(rows) // 4096)):
            if not len(part):
                continue
            near = torch.cdist(looks[torch.from_numpy(part)], against).min(dim=1).values
            held[part] = 1.0 - torch.exp2(-((near**2 / ALIKE) ** 2)).numpy()
    return held


def _looks(field: CorrectedField) -> npt.NDArray[np.float32]:
    """(N, .) what a region shows and what lies around it, in units of the slide's own spread."""
    own = field.view.tokens.mean(axis=1)
    parts = []
    for values in (own, field.context_tokens):
        spread = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        parts.append(values / np.sqrt(2 * values.shape[1]))
    return np.concatenate(parts, axis=1).astype(np.float32)
