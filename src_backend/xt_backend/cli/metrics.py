"""Metrics as a table for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from xt_backend.wording import counted

if TYPE_CHECKING:
    from xt_backend.training import Interval, MaskMetrics, Metrics, PointMetrics

__all__ = ["metrics_table", "pixels_table"]


def metrics_table(context: Metrics, region_only: Metrics | None, unit: str = "region") -> str:
    """One line a number, with its 95 % interval; the region-only head in a second column.

    Args:
        context: The model's prediction.
        region_only: The region-only head's, or None.
        unit: What was judged: ``region`` or ``slide``.
    """
    columns = [context] if region_only is None else [context, region_only]
    lines = [_header(len(columns))]

    def line(name: str, values: list[Interval]) -> None:
        lines.append(_line(name, values))

    for name in context.classes:
        line(f"F1 {name}", [metrics.f1[name] for metrics in columns])
    for name in context.classes:
        line(f"AUROC {name}", [metrics.auroc[name] for metrics in columns])
    line("macro F1", [metrics.macro_f1 for metrics in columns])
    line("balanced accuracy", [metrics.balanced_accuracy for metrics in columns])
    line("accuracy", [metrics.accuracy for metrics in columns])
    line("calibration error", [metrics.calibration_error for metrics in columns])
    kappas = [metrics.quadratic_kappa for metrics in columns]
    if given := [kappa for kappa in kappas if kappa is not None]:
        line("quadratic kappa", given)
    failed = f", {context.n_failed} failed (counted as wrong)" if context.n_failed else ""
    judged = counted(context.n_regions, unit)
    if unit != "slide":
        judged += f" of {counted(context.n_slides, 'slide')}"
    drawn = math.isfinite(context.accuracy.low)
    how = f"; intervals by drawing {context.resampled} anew" if drawn else ""
    lines.append(f"{judged}{failed}{how}")
    return "\n".join(line.rstrip() for line in lines)


def masks_table(context: MaskMetrics, region_only: MaskMetrics | None) -> str:
    """The same for masks."""
    columns = [context] if region_only is None else [context, region_only]
    lines = [_header(len(columns))]
    lines += [
        _line(f"Dice {name}", [one.dice[name] for one in columns]) for name in context.classes
    ]
    lines += [_line(f"IoU {name}", [one.iou[name] for one in columns]) for name in context.classes]
    lines += [
        _line("mean Dice", [one.mean_dice for one in columns]),
        _line("mean IoU", [one.mean_iou for one in columns]),
        _line("pixel accuracy", [one.accuracy for one in columns]),
        f"{counted(context.n_px, 'annotated pixel')} of the masks",
    ]
    return "\n".join(line.rstrip() for line in lines)


def points_table(context: PointMetrics, region_only: PointMetrics | None) -> str:
    """The same for points."""
    columns = [context] if region_only is None else [context, region_only]
    lines = [_header(len(columns))]
    for kind in context.kinds:
        lines += [
            _line(f"precision {kind}", [one.precision[kind] for one in columns]),
            _line(f"recall {kind}", [one.recall[kind] for one in columns]),
            _line(f"F1 {kind}", [one.f1[kind] for one in columns]),
        ]
    lines += [_line("F1 of all", [one.all_f1 for one in columns])]
    found, marked = sum(context.n_points.values()), sum(context.n_objects.values())
    lines += [
        f"{counted(found, 'point')}, {counted(marked, 'object')}, within {context.distance_um:g} um"
    ]
    return "\n".join(line.rstrip() for line in lines)


def pixels_table(
    context: MaskMetrics | PointMetrics, region_only: MaskMetrics | PointMetrics | None
) -> str:
    """Either of them."""
    from xt_backend.training import MaskMetrics

    if isinstance(context, MaskMetrics):
        return masks_table(context, region_only if isinstance(region_only, MaskMetrics) else None)
    return points_table(context, None if isinstance(region_only, MaskMetrics) else region_only)


def _header(n_columns: int) -> str:
    titles = ("with context", "region only")[:n_columns]
    return f"{'':<24}" + "".join(f"{title:<24}" for title in titles)


def _line(name: str, values: list[Interval]) -> str:
    return f"{name:<24}" + "".join(f"{_interval(value):<24}" for value in values)


def _interval(value: Interval) -> str:
    if not math.isfinite(value.value):
        return "-"
    if not math.isfinite(value.low):
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
