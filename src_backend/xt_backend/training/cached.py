"""Learning from whitened tokens that are all in memory: the region encoder is frozen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.model import XT, FeatureStats

from .augment import View, blank_tokens, join, shift, turn
from .batch import TOKENS_AT_ONCE, Batch, count_tokens, decode, packed
from .fields import LabelledField
from .judging import Judged
from .learner import Backward, StepOutcome
from .losses import class_weights, heads_loss, soft_cross_entropy
from .metrics import macro_f1
from .pixel_judging import PixelJudged
from .spec import TrainSpec

__all__ = ["CachedLearner", "Tally", "judge_fields", "stats_of"]

SMALL_FIELD = 500_000
"""Tokens times width of the longest field, below which one thread is fastest."""

FURTHER = 1.5
"""How much further from the training's mean than any training slide a slide may be."""

LEAST_LIMIT = 0.5
"""The same in standard deviations, for training slides that are all alike."""

JOIN_SHARE = 0.5
"""How often a slide is laid beside the one before it, where regions are predicted."""


@dataclass
class CachedLearner:
    """A `Learner` on whitened tokens.

    Attributes:
        model: Whitening fitted.
        train: Fields to learn from.
        val: Fields that choose the best epoch; may be empty.
        spec: The recipe.
        pitch_um: Step of the lattice.
    """

    model: XT
    train: Sequence[LabelledField]
    val: Sequence[LabelledField]
    spec: TrainSpec
    pitch_um: float
    trains_encoder: bool = False
    scales_loss: bool = False

    def __post_init__(self) -> None:
        soft = torch.from_numpy(np.concatenate([one.view.soft for one in self.train]))
        weights = torch.from_numpy(np.concatenate([one.view.weights for one in self.train]))
        balance = self.spec.class_balance
        self._by_class = class_weights(soft, weights, balance).to(self.model.device)

    def __len__(self) -> int:
        return len(self.train)

    @property
    def is_small(self) -> bool:
        """See `Learner`."""
        return max(count_tokens([one.view]) for one in self.train) * self.spec.dim < SMALL_FIELD

    def fingerprint(self) -> str:
        """See `Learner`."""
        digest = hashlib.sha256()
        for one in (*self.train, *self.val):
            view = one.view
            for values in (view.tokens, view.positions_um, view.soft, view.weights):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def counts(self, *, validation: bool = False) -> npt.NDArray[np.int64]:
        """See `Learner`."""
        counts = np.zeros(len(self._by_class), np.int64)
        for one in self.val if validation else self.train:
            counts += np.bincount(one.true[one.view.weights > 0], minlength=len(counts))
        return counts

    def step(
        self, slides: Sequence[int], epoch: int, rng: np.random.Generator, backward: Backward
    ) -> StepOutcome | None:
        """See `Learner`."""
        batches = self._batches([self.train[index] for index in slides], rng)
        total = sum(float(batch.weights.sum()) for batch in batches)
        if total == 0:
            return None
        loss = 0.0
        confusion = np.zeros((len(self._by_class), len(self._by_class) + 1))
        for batch in batches:
            both = decode(self.model, batch)
            part = heads_loss(both, batch.soft, batch.weights, self._by_class, self.spec)
            part = part * (batch.weights.sum() / total)
            backward(part)
            loss += part.item()
            confusion += batch.confusion(both[0])
        return StepOutcome(loss, confusion)

    def validate(self) -> dict[str, float]:
        """See `Learner`."""
        if not self.val:
            return {}
        tally = Tally(len(self._by_class))
        self.model.eval()
        for part in packed([one.view for one in self.val]):
            tally.add(self.model, part, self._by_class)
        return tally.row()

    def judge(self) -> list[Judged]:
        """See `Learner`."""
        return judge_fields(self.model, self.val)

    def judge_pixels(self) -> list[PixelJudged]:
        """See `Learner`; there are no pixels here."""
        return []

    def colours(self) -> list[tuple[float, float, float]]:
        """See `Learner`."""
        return [one.colours for one in self.train if one.colours is not None]

    def feature_stats(self) -> FeatureStats:
        """See `Learner`."""
        return stats_of([one.view.tokens for one in self.train])

    def _batches(self, fields: Sequence[LabelledField], rng: np.random.Generator) -> list[Batch]:
        """Draw a view of every slide, lay some side by side, and put them on the device."""
        spec = self.spec
        joins = self.model.card.task != "slide"
        glasses: list[list[View]] = []
        for one in fields:
            view = blank_tokens(one.view, spec.token_dropout, spec.token_noise, rng)
            view = turn(view, int(rng.integers(8)))
            beside = joins and bool(glasses) and rng.random() < JOIN_SHARE
            if beside and count_tokens([*glasses[-1], view]) <= TOKENS_AT_ONCE:
                glasses[-1].append(view)
            else:
                glasses.append([view])
        views = [shift(join(glass, self.pitch_um, rng), rng) for glass in glasses]
        return [Batch.of(part, self.model.device) for part in packed(views)]


class Tally:
    """The numbers of `Learner.validate`, added up field by field.

    Args:
        n_classes: C.

    Attributes:
        numbers: Loss, weight, and both heads' confusions: what several processes can add up.
    """

    def __init__(self, n_classes: int) -> None:
        self._shape = (2, n_classes, n_classes + 1)
        self.numbers = np.zeros(2 + int(np.prod(self._shape)))

    @torch.inference_mode()
    def add(self, model: XT, views: Sequence[View], by_class: torch.Tensor) -> None:
        """Judge fields together."""
        batch = Batch.of(views, model.device)
        logits, region_only = decode(model, batch)
        weight = float(batch.weights.sum())
        loss = soft_cross_entropy(logits, batch.soft, batch.weights, by_class)
        confusions = np.stack([batch.confusion(logits), batch.confusion(region_only)])
        self.numbers += np.concatenate([[weight * float(loss), weight], confusions.ravel()])

    def row(self) -> dict[str, float]:
        """See `Learner.validate`."""
        loss, total = self.numbers[:2].tolist()
        both, alone = self.numbers[2:].reshape(self._shape)
        return {
            "val_loss": loss / total if total else math.inf,
            "val_f1": macro_f1(both),
            "val_f1_region_only": macro_f1(alone),
        }


def judge_fields(model: XT, fields: Sequence[LabelledField]) -> list[Judged]:
    """Predict every field on its own, and keep what has a true label."""
    model.eval()
    judged = []
    with torch.inference_mode():
        for one in fields:
            logits, alone = decode(model, Batch.of([one.view], model.device))
            known = one.view.weights > 0
            judged.append(
                Judged(
                    one.true[known],
                    one.view.soft[known],
                    logits.float().cpu().numpy()[known],
                    alone.float().cpu().numpy()[known],
                )
            )
    return judged


def stats_of(slides: Sequence[npt.NDArray[np.float32]]) -> FeatureStats:
    """Statistics of the whitened tokens (.., P) of training slides.

    Slides that were never seen lie further away than the furthest training slide.
    """
    parts = [tokens.reshape(-1, tokens.shape[-1]) for tokens in slides]
    rows = np.concatenate(parts)
    stats = FeatureStats(
        mean=tuple(rows.mean(axis=0, dtype=np.float64).tolist()),
        std=tuple(rows.std(axis=0, dtype=np.float64).tolist()),
    )
    means = [part.mean(axis=0, dtype=np.float64).tolist() for part in parts if len(part)]
    furthest = max(stats.distance(one) for one in means)
    return stats.model_copy(update={"limit": max(LEAST_LIMIT, FURTHER * furthest)})
