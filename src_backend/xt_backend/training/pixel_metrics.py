"""How good masks and points are, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .metrics import MIN_SLIDES_TO_RESAMPLE, Interval, bootstrap, intervals

__all__ = [
    "MaskMetrics",
    "PixelMetrics",
    "PointMetrics",
    "mean_dice",
    "measure_masks",
    "measure_points",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MaskMetrics:
    """How well masks agree with annotated pixels.

    Attributes:
        classes: C names.
        n_px: Annotated mask pixels.
        n_failed_px: Those without a prediction; they count as wrong.
        resampled: What the bootstrap draws: ``slides``, or ``regions`` of fewer than 5 slides.
        dice: By class, also `iou`; NaN for a class that neither occurs nor is predicted.
        mean_dice: Over the classes, also `mean_iou`.
        accuracy: Share of pixels with the right class.
    """

    classes: tuple[str, ...]
    n_px: int
    n_failed_px: int
    resampled: str
    dice: dict[str, Interval]
    iou: dict[str, Interval]
    mean_dice: Interval
    mean_iou: Interval
    accuracy: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return _plain(self)


@dataclass(frozen=True)
class PointMetrics:
    """How well points agree with marked objects.

    Attributes:
        kinds: K names.
        distance_um: How far a point may lie from its object.
        n_objects: By kind, also `n_points`.
        resampled: ``slides``, or ``nothing`` with fewer than 5 of them.
        precision: By kind, also `recall` and `f1`; NaN where not defined.
        all_f1: Of all kinds together, also `all_precision` and `all_recall`.
    """

    kinds: tuple[str, ...]
    distance_um: float
    n_objects: dict[str, int]
    n_points: dict[str, int]
    resampled: str
    precision: dict[str, Interval]
    recall: dict[str, Interval]
    f1: dict[str, Interval]
    all_precision: Interval
    all_recall: Interval
    all_f1: Interval

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return _plain(self)


PixelMetrics: TypeAlias = MaskMetrics | PointMetrics


def mean_dice(confusion: Floats) -> float:
    """Mean over the classes that occur or are predicted, of (C, C) or (C, C + 1) counts."""
    return float(_mean(_dice(confusion[None]))[0])


def measure_masks(
    classes: Sequence[str],
    counts: Sequence[npt.NDArray[np.int64]],
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> MaskMetrics:
    """Measure masks.

    Args:
        classes: C names.
        counts: Of every slide, (R, C, C + 1) pixels of its R regions: rows true, columns
            predicted, the last column: failed.
        n_bootstrap: Resamples; 0 leaves the intervals NaN.
        seed: Of the resampling.
    """
    n = len(classes)
    by_slide = len(counts) >= MIN_SLIDES_TO_RESAMPLE
    units = [one.sum(axis=0, keepdims=True) for one in counts] if by_slide else list(counts)
    stacked = np.concatenate([np.zeros((0, n, n + 1)), *units]).astype(np.float64)

    def numbers(summed: Floats) -> Floats:
        confusion = summed.reshape(-1, n, n + 1)
        dice = _dice(confusion)
        iou = dice / (2 - dice)
        hits = np.trace(confusion[:, :, :n], axis1=1, axis2=2)
        total = confusion.sum(axis=(1, 2))
        accuracy = np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0)
        return np.column_stack([dice, iou, _mean(dice), _mean(iou), accuracy])

    found = _intervals(numbers, stacked.reshape(len(stacked), n * (n + 1)), n_bootstrap, seed)
    whole = stacked.sum(axis=0)
    return MaskMetrics(
        classes=tuple(classes),
        n_px=int(whole.sum()),
        n_failed_px=int(whole[:, n].sum()),
        resampled="slides" if by_slide else "regions",
        dice=dict(zip(classes, found[:n], strict=True)),
        iou=dict(zip(classes, found[n : 2 * n], strict=True)),
        mean_dice=found[2 * n],
        mean_iou=found[2 * n + 1],
        accuracy=found[2 * n + 2],
    )


def measure_points(
    kinds: Sequence[str],
    counts: Floats,
    distance_um: float,
    *,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> PointMetrics:
    """Measure points.

    Args:
        kinds: K names.
        counts: (S, K, 3) of every slide and kind: points that found an object, points, objects.
        distance_um: Within which they were found.
        n_bootstrap: As of `measure_masks`.
        seed: Of the resampling.
    """
    n = len(kinds)
    by_slide = len(counts) >= MIN_SLIDES_TO_RESAMPLE

    def numbers(summed: Floats) -> Floats:
        each = summed.reshape(-1, n, 3)
        each = np.concatenate([each, each.sum(axis=1, keepdims=True)], axis=1)
        hits, points, objects = each[..., 0], each[..., 1], each[..., 2]
        parts = [_ratio(hits, points), _ratio(hits, objects), _ratio(2 * hits, points + objects)]
        return np.concatenate(parts, axis=1)

    draws = n_bootstrap if by_slide else 0
    found = _intervals(numbers, counts.reshape(len(counts), n * 3), draws, seed)
    precision, recall, f1 = (found[part * (n + 1) : (part + 1) * (n + 1)] for part in range(3))
    total = counts.sum(axis=0).astype(int)
    return PointMetrics(
        kinds=tuple(kinds),
        distance_um=distance_um,
        n_objects=dict(zip(kinds, total[:, 2].tolist(), strict=True)),
        n_points=dict(zip(kinds, total[:, 1].tolist(), strict=True)),
        resampled="slides" if by_slide else "nothing",
        precision=dict(zip(kinds, precision[:n], strict=True)),
        recall=dict(zip(kinds, recall[:n], strict=True)),
        f1=dict(zip(kinds, f1[:n], strict=True)),
        all_precision=precision[n],
        all_recall=recall[n],
        all_f1=f1[n],
    )


def _dice(confusion: Floats) -> Floats:
    """(n, C) of (n, C, C) or (n, C, C + 1) counts."""
    n_classes = confusion.shape[1]
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return _ratio(2 * hits, confusion.sum(axis=2) + confusion[:, :, :n_classes].sum(axis=1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def _mean(values: Floats) -> Floats:
    """(n,) means over the columns that are defined."""
    defined = np.isfinite(values)
    count = defined.sum(axis=1).astype(np.float64)
    return _ratio(np.where(defined, values, 0.0).sum(axis=1), count)


def _intervals(
    numbers: Callable[[Floats], Floats], units: Floats, n_bootstrap: int, seed: int
) -> list[Interval]:
    """Numbers of summed counts (U, M) with the units drawn again, with replacement."""

    def weighted(weights: Floats) -> Floats:
        return np.asarray(numbers((weights @ units)[None])[0])

    draws = bootstrap(weighted, np.arange(len(units)), n_bootstrap, seed)
    return intervals(weighted(np.ones(len(units))), draws)


def _plain(metrics: PixelMetrics) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in vars(metrics).items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Interval):
        return value.to_dict()
    if isinstance(value, dict):
        return {name: _plain_value(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
