"""Numbers that follow from which class was predicted for which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "FAILED",
    "balanced_accuracy",
    "confusion_matrix",
    "f1_scores",
    "macro_f1",
    "mean_of_defined",
    "quadratic_kappa",
]

FAILED = -1
"""Predicted label of a region that has no prediction: always wrong."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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
    """Mean F1 over the classes that occur, so that two heads have the same ones; 0 without any.

    A class that is only predicted costs the classes whose regions it took.
    """
    f1 = f1_scores(confusion)
    mean = mean_of_defined(f1[confusion.sum(axis=1) > 0])
    return mean if np.isfinite(mean) else 0.0


def balanced_accuracy(confusion: Floats) -> float:
    """Mean recall over the classes that occur; NaN when none does."""
    occurs = confusion.sum(axis=1)
    recall = np.divide(
        np.diagonal(confusion), occurs, out=np.full(len(confusion), np.nan), where=occurs > 0
    )
    return mean_of_defined(recall)


def quadratic_kappa(confusion: Floats) -> float:
    """Cohen's kappa with quadratic weights, for classes that have an order.

    Disagreement counts with the square of how many classes lie between; a failed region counts as
    the class that is furthest from the true one.

    Args:
        confusion: (C, C + 1) as of `confusion_matrix`, the classes in their order.

    Returns:
        1 for perfect agreement, 0 for what chance would give; NaN when only one class occurs and
        is predicted.
    """
    n = len(confusion)
    counts = confusion[:, :n].copy()
    true = np.arange(n)
    furthest = np.where(true >= n / 2, 0, n - 1)
    counts[true, furthest] += confusion[:, n]
    total = counts.sum()
    if total <= 0:
        return float("nan")
    weights = (true[:, None] - true[None, :]) ** 2
    by_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    expected = (weights * by_chance).sum()
    return float(1 - (weights * counts).sum() / expected) if expected > 0 else float("nan")


def mean_of_defined(values: Floats) -> float:
    """Mean of the values that are defined; NaN when none is."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")
