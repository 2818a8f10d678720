"""Numbers that say how good predictions are, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Interval",
    "Metrics",
    "auroc",
    "balanced_accuracy",
    "calibration_error",
    "confusion_matrix",
    "f1_scores",
    "macro_f1",
    "measure",
]

CALIBRATION_BINS = 15
"""Equal-width bins of the most probable class's probability."""

MIN_SLIDES_TO_RESAMPLE = 5
"""With fewer slides the bootstrap draws regions, which makes intervals too narrow."""

FAILED = -1
"""Predicted label of a region that has no prediction: always wrong."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number with its bootstrap interval; NaN where it is not defined.

    Attributes:
        value: On the data as they are.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def to_dict(self) -> dict[str, float | None]:
        """Plain data for JSON; None stands for "not defined"."""
        return {
            name: float(value) if np.isfinite(value) else None
            for name, value in (("value", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True)
class Metrics:
    """How good the predictions of one head are.

    Attributes:
        classes: C names.
        n_regions: Regions with a true label.
        n_failed: Regions without a prediction; they count as wrong everywhere.
        n_slides: Slides that these regions come from.
        resampled: What the bootstrap draws: ``slides`` or ``regions``.
        f1: By class. Also the others by class: one against the rest.
        confusion: (C, C + 1) int64, rows true, columns predicted, the last column: failed.
        support: Regions by true class.
    """

    classes: tuple[str, ...]
    n_regions: int
    n_failed: int
    n_slides: int
    resampled: str
    f1: dict[str, Interval]
    auroc: dict[str, Interval]
    macro_f1: Interval
    balanced_accuracy: Interval
    accuracy: Interval
    calibration_error: Interval
    confusion: Ints
    support: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "classes": list(self.classes),
            "n_regions": self.n_regions,
            "n_failed": self.n_failed,
            "n_slides": self.n_slides,
            "resampled": self.resampled,
            "f1": {name: value.to_dict() for name, value in self.f1.items()},
            "auroc": {name: value.to_dict() for name, value in self.auroc.items()},
            "macro_f1": self.macro_f1.to_dict(),
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "accuracy": self.accuracy.to_dict(),
            "calibration_error": self.calibration_error.to_dict(),
            "confusion": self.confusion.tolist(),
            "support": dict(self.support),
        }


def confusion_matrix(
    true: Ints, predicted: Ints, n_classes: int, weights: Floats | None = None
) -> Floats:
    """Count regions by true and predicted label.

    Args:
        true: (n,) labels 0 to C - 1.
        predicted: (n,) labels 0 to C - 1, or `FAILED`.
        n_classes: C.
        weights: (n,) how often each region counts; once when None.

    Returns:
        (C, C + 1) float64, the last column counts failed regions.
    """
    column = np.where(predicted == FAILED, n_classes, predicted)
    width = n_classes + 1
    counts = np.bincount(true * width + column, weights=weights, minlength=n_classes * width)
    return counts.astype(np.float64).reshape(n_classes, width)


def f1_scores(confusion: Floats) -> Floats:
    """(C,) F1 of every class from a (C, C + 1) confusion matrix.

    NaN for a class that neither occurs nor is predicted.
    """
    n_classes = len(confusion)
    hit = np.diagonal(confusion)
    both = confusion.sum(axis=1) + confusion[:, :n_classes].sum(axis=0)
    scores: Floats = np.divide(2 * hit, both, out=np.full(n_classes, np.nan), where=both > 0)
    return scores


def macro_f1(confusion: Floats) -> float:
    """Mean F1 over the classes that occur or are predicted; 0 without any."""
    mean = _mean(f1_scores(confusion))
    return mean if np.isfinite(mean) else 0.0


def balanced_accuracy(confusion: Floats) -> float:
    """Mean recall over the classes that occur; NaN when none does."""
    occurs = confusion.sum(axis=1)
    recall = np.divide(
        np.diagonal(confusion), occurs, out=np.full(len(confusion), np.nan), where=occurs > 0
    )
    return _mean(recall)


def auroc(positive: npt.NDArray[np.bool_], scores: Floats, weights: Floats | None = None) -> float:
    """Area under the ROC curve; ties count half.

    Args:
        positive: (n,) whether the region is of the class.
        scores: (n,) probability of the class; failed regions as the worst possible answer.
        weights: (n,) how often each region counts; once when None.

    Returns:
        0 to 1; NaN when one side is empty.
    """
    return _Ranked.of(positive, scores).auroc(np.ones(len(scores)) if weights is None else weights)


@dataclass(frozen=True)
class _Ranked:
    """Scores sorted once, so that thousands of reweighted areas cost one pass each."""

    order: Ints
    group: Ints
    positive: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, positive: npt.NDArray[np.bool_], scores: Floats) -> _Ranked:
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])]).astype(np.int64)
        return cls(order, group[: len(scores)], positive[order])

    def auroc(self, weights: Floats) -> float:
        if not len(self.order):
            return float("nan")
        mine = weights[self.order]
        n_groups = int(self.group[-1]) + 1
        up = np.bincount(self.group, weights=mine * self.positive, minlength=n_groups)
        down = np.bincount(self.group, weights=mine * ~self.positive, minlength=n_groups)
        below = np.cumsum(down) - down / 2
        pairs = up.sum() * down.sum()
        return float((up * below).sum() / pairs) if pairs > 0 else float("nan")


def calibration_error(
    confidence: Floats, correct: npt.NDArray[np.bool_], weights: Floats | None = None
) -> float:
    """Expected calibration error of the most probable class.

    Args:
        confidence: (n,) its probability, 0 to 1.
        correct: (n,) whether it is the true class.
        weights: (n,) how often each region counts; once when None.

    Returns:
        Mean gap between confidence and accuracy over 15 bins of equal width; NaN without regions.
    """
    weights = np.ones(len(confidence)) if weights is None else weights
    total = weights.sum()
    if total <= 0:
        return float("nan")
    bins = np.clip((confidence * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    gap = np.bincount(bins, weights=weights * (confidence - correct), minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / total)


def measure(
    classes: Sequence[str],
    true: Ints,
    probabilities: Floats,
    predicted: Ints,
    slides: Ints,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Measure one head's predictions.

    Args:
        classes: C names.
        true: (n,) true labels.
        probabilities: (n, C); rows of NaN where the region failed.
        predicted: (n,) labels after thresholds, `FAILED` where the region failed.
        slides: (n,) number of the slide that each region belongs to.
        n_bootstrap: Resamples; 0 leaves the intervals NaN.
        seed: Of the resampling.
    """
    head = _Head(len(classes), true, probabilities, predicted)
    names, slide_of = np.unique(slides, return_inverse=True)
    by_slide = len(names) >= MIN_SLIDES_TO_RESAMPLE
    point = head.numbers(np.ones(len(true)))
    unit = slide_of if by_slide else np.arange(len(true))
    draws = _bootstrap(head.numbers, unit.astype(np.int64), n_bootstrap, seed)

    def interval(index: int) -> Interval:
        column = draws[:, index]
        column = column[np.isfinite(column)]
        if not len(column):
            return Interval(float(point[index]))
        low, high = np.percentile(column, [2.5, 97.5])
        return Interval(float(point[index]), float(low), float(high))

    n = len(classes)
    confusion = confusion_matrix(true, predicted, n)
    return Metrics(
        classes=tuple(classes),
        n_regions=len(true),
        n_failed=int((predicted == FAILED).sum()),
        n_slides=len(names),
        resampled="slides" if by_slide else "regions",
        f1={name: interval(index) for index, name in enumerate(classes)},
        auroc={name: interval(n + index) for index, name in enumerate(classes)},
        macro_f1=interval(2 * n),
        balanced_accuracy=interval(2 * n + 1),
        accuracy=interval(2 * n + 2),
        calibration_error=interval(2 * n + 3),
        confusion=confusion.astype(np.int64),
        support={name: int(confusion[index].sum()) for index, name in enumerate(classes)},
    )


class _Head:
    """All numbers of one head as a function of how often each region counts."""

    def __init__(self, n_classes: int, true: Ints, probabilities: Floats, predicted: Ints) -> None:
        self._n_classes = n_classes
        self._true = true
        self._predicted = predicted
        failed = np.asarray(~np.isfinite(probabilities).all(axis=1))
        known = np.where(failed[:, None], 0.0, probabilities)
        self._failed = failed
        self._confidence = known.max(axis=1, initial=0.0)
        self._correct = (known.argmax(axis=1) == true) & ~failed
        self._ranked = []
        for index in range(n_classes):
            positive = np.asarray(true == index)
            # Below every score when it should be high, above when it should be low.
            scores = np.where(failed, np.where(positive, -1.0, 2.0), known[:, index])
            self._ranked.append(_Ranked.of(positive, scores))

    def numbers(self, weights: Floats) -> Floats:
        confusion = confusion_matrix(self._true, self._predicted, self._n_classes, weights)
        f1 = f1_scores(confusion)
        total = confusion.sum()
        scored = np.where(self._failed, 0.0, weights)
        return np.array(
            [
                *f1,
                *(ranked.auroc(weights) for ranked in self._ranked),
                _mean(f1),
                balanced_accuracy(confusion),
                np.trace(confusion) / total if total > 0 else np.nan,
                calibration_error(self._confidence, self._correct, scored),
            ]
        )


def _bootstrap(
    numbers: Callable[[Floats], Floats], unit: Ints, n_bootstrap: int, seed: int
) -> Floats:
    """(n_bootstrap, M) numbers with the units drawn again, with replacement."""
    n_units = int(unit.max()) + 1 if len(unit) else 0
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_bootstrap if n_units else 0):
        counts = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
        draws.append(numbers(counts[unit].astype(np.float64)))
    width = len(numbers(np.ones(len(unit))))
    return np.array(draws).reshape(-1, width)


def _mean(values: Floats) -> float:
    """Mean of the values that are defined; NaN when none is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")
