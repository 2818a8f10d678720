"""All numbers of one head's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .calibration import calibration_error
from .confusion import (
    FAILED,
    balanced_accuracy,
    confusion_matrix,
    f1_scores,
    macro_f1,
    quadratic_kappa,
)
from .intervals import MIN_SLIDES_TO_RESAMPLE, Interval, bootstrap, intervals
from .ranking import Ranked

__all__ = ["Metrics", "measure"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """How good the predictions of one head are.

    Attributes:
        classes: C names.
        n_regions: Regions with a true label.
        n_failed: Regions without a prediction; they count as wrong everywhere.
        n_slides: Slides that these regions come from.
        resampled: What the bootstrap draws: ``patients``, ``slides`` or ``regions``.
        f1: By class. Also the others by class: one against the rest.
        quadratic_kappa: For classes that have an order, else None.
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
    quadratic_kappa: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        kappa = self.quadratic_kappa
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
            **({} if kappa is None else {"quadratic_kappa": kappa.to_dict()}),
            "confusion": self.confusion.tolist(),
            "support": dict(self.support),
        }


def measure(
    classes: Sequence[str],
    true: Ints,
    probabilities: Floats,
    predicted: Ints,
    slides: Ints,
    *,
    patients: Ints | None = None,
    ordered: bool = False,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Metrics:
    """Measure one head's predictions.

    The bootstrap draws patients where these are known, else slides, since regions of one slide are
    alike; of too few of either, what lies below.

    Args:
        classes: C names.
        true: (n,) true labels.
        probabilities: (n, C); rows of NaN where the region failed.
        predicted: (n,) labels after thresholds, `FAILED` where the region failed.
        slides: (n,) number of the slide that each region belongs to.
        patients: (n,) number of the patient, where known.
        ordered: Whether the classes have an order, for `Metrics.quadratic_kappa`.
        n_bootstrap: Resamples; 0 leaves the intervals NaN.
        seed: Of the resampling.
    """
    head = _Head(len(classes), true, probabilities, predicted)
    resampled, unit = _units(slides, patients)
    found = intervals(
        head.numbers(np.ones(len(true))), bootstrap(head.numbers, unit, n_bootstrap, seed)
    )
    n = len(classes)
    confusion = confusion_matrix(true, predicted, n)
    return Metrics(
        classes=tuple(classes),
        n_regions=len(true),
        n_failed=int((predicted == FAILED).sum()),
        n_slides=len(np.unique(slides)),
        resampled=resampled,
        f1=dict(zip(classes, found[:n], strict=True)),
        auroc=dict(zip(classes, found[n : 2 * n], strict=True)),
        macro_f1=found[2 * n],
        balanced_accuracy=found[2 * n + 1],
        accuracy=found[2 * n + 2],
        calibration_error=found[2 * n + 3],
        confusion=confusion.astype(np.int64),
        support={name: int(confusion[index].sum()) for index, name in enumerate(classes)},
        quadratic_kappa=found[2 * n + 4] if ordered else None,
    )


def _units(slides: Ints, patients: Ints | None) -> tuple[str, Ints]:
    """What the bootstrap draws, and (n,) the number of each region's."""
    for name, groups in (("patients", patients), ("slides", slides)):
        if groups is None:
            continue
        known, unit = np.unique(groups, return_inverse=True)
        if len(known) >= MIN_SLIDES_TO_RESAMPLE:
            return name, unit.astype(np.int64)
    alone = len(np.unique(slides)) == len(slides)  # one row a slide, as in the slide task
    return "slides" if alone else "regions", np.arange(len(slides), dtype=np.int64)


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
        self._ranked: list[Ranked] = []
        for index in range(n_classes):
            positive = np.asarray(true == index)
            # Below every score when it should be high, above when it should be low.
            scores = np.where(failed, np.where(positive, -1.0, 2.0), known[:, index])
            self._ranked.append(Ranked.of(positive, scores))

    def numbers(self, weights: Floats) -> Floats:
        confusion = confusion_matrix(self._true, self._predicted, self._n_classes, weights)
        f1 = f1_scores(confusion)
        total = confusion.sum()
        scored = np.where(self._failed, 0.0, weights)
        return np.array(
            [
                *f1,
                *(ranked.auroc(weights) for ranked in self._ranked),
                macro_f1(confusion) if total > 0 else np.nan,
                balanced_accuracy(confusion),
                np.trace(confusion) / total if total > 0 else np.nan,
                calibration_error(self._confidence, self._correct, scored),
                quadratic_kappa(confusion),
            ]
        )
