"""Whether probabilities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CALIBRATION_BINS", "Reliability", "calibration_error", "reliability"]

CALIBRATION_BINS = 15
"""Equal-width bins of the most probable class's probability."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """How often the most probable class is the true one, by how sure the model was.

    Attributes:
        count: (15,) regions in each bin of equal width from 0 to 1.
        confidence: (15,) mean probability of the most probable class, NaN in empty bins.
        accuracy: (15,) share of regions of which it is the true class, NaN in empty bins.
        error: Expected calibration error.
    """

    count: Floats
    confidence: Floats
    accuracy: Floats
    error: float


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
    gap = _binned(confidence, weights * (confidence - correct))
    return float(np.abs(gap).sum() / total)


def reliability(confidence: Floats, correct: npt.NDArray[np.bool_]) -> Reliability:
    """The numbers behind a reliability diagram; arguments as of `calibration_error`."""
    count = _binned(confidence, np.ones(len(confidence)))

    def mean(values: Floats) -> Floats:
        found: Floats = np.full(CALIBRATION_BINS, np.nan)
        np.divide(_binned(confidence, values), count, out=found, where=count > 0)
        return found

    return Reliability(
        count,
        mean(confidence),
        mean(correct.astype(np.float64)),
        calibration_error(confidence, correct),
    )


def _binned(confidence: Floats, values: Floats) -> Floats:
    """(15,) sum of the values of the regions in each bin."""
    bins = np.clip((confidence * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    return np.bincount(bins, weights=values, minlength=CALIBRATION_BINS).astype(np.float64)
