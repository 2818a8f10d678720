"""Metrics as a table for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from xt_backend.wording import counted

if TYPE_CHECKING:
    from xt_backend.training import Interval, MaskMetrics, Metrics, PointMetrics

__all__ = ["aligned", "metrics_table", "pixels_table"]

Row: TypeAlias = tuple[str, Sequence[str]]


def metrics_table(context: Metrics, region_only: Metrics | None, unit: str = "region") -> str:
    """One line a number, with its 95 % interval; the region-only head in a second column.

    Args:
        context: The model's prediction.
        region_only: The region-only head's, or None.
        unit: What was judged: ``region`` or ``slide``.
    """
    columns = [context] if region_only is None else [context, region_only]
    rows = [
        *(_row(f"F1 {name}", [one.f1[name] for one in columns]) for name in context.classes),
        *(_row(f"AUROC {name}", [one.auroc[name] for one in columns]) for name in context.classes),
        _row("macro F1", [one.macro_f1 for one in columns]),
        _row("balanced accuracy", [one.balanced_accuracy for one in columns]),
        _row("accuracy", [one.accuracy for one in columns]),
        _row("calibration error", [one.calibration_error for one in columns]),
    ]
    kappas = [one.quadratic_kappa for one in columns]
    if given := [kappa for kappa in kappas if kappa is not None]:
        rows.append(_row("quadratic kappa", given))
    failed = f", {context.n_failed} failed (counted as wrong)" if context.n_failed else ""
    judged = counted(context.n_regions, unit)
    if unit != "slide":
        judged += f" of {counted(context.n_slides, 'slide')}"
    drawn = math.isfinite(context.accuracy.low)
    how = f"; intervals by drawing {context.resampled} anew" if drawn else ""
    return _table(rows, f"{judged}{failed}{how}")


def masks_table(context: MaskMetrics, region_only: MaskMetrics | None) -> str:
    """The same for masks."""
    columns = [context] if region_only is None else [context, region_only]
    rows = [
        *(_row(f"Dice {name}", [one.dice[name] for one in columns]) for name in context.classes),
        *(_row(f"IoU {name}", [one.iou[name] for one in columns]) for name in context.classes),
        _row("mean Dice", [one.mean_dice for one in columns]),
        _row("mean IoU", [one.mean_iou for one in columns]),
        _row("pixel accuracy", [one.accuracy for one in columns]),
    ]
    return _table(rows, f"{counted(context.n_px, 'annotated pixel')} of the masks")


def points_table(context: PointMetrics, region_only: PointMetrics | None) -> str:
    """The same for points."""
    columns = [context] if region_only is None else [context, region_only]
    rows = []
    for kind in context.kinds:
        rows += [
            _row(f"precision {kind}", [one.precision[kind] for one in columns]),
            _row(f"recall {kind}", [one.recall[kind] for one in columns]),
            _row(f"F1 {kind}", [one.f1[kind] for one in columns]),
        ]
    rows.append(_row("F1 of all", [one.all_f1 for one in columns]))
    found, marked = sum(context.n_points.values()), sum(context.n_objects.values())
    within = f"within {context.distance_um:g} um"
    return _table(rows, f"{counted(found, 'point')}, {counted(marked, 'object')}, {within}")


def pixels_table(
    context: MaskMetrics | PointMetrics, region_only: MaskMetrics | PointMetrics | None
) -> str:
    """Either of them."""
    from xt_backend.training import MaskMetrics

    if isinstance(context, MaskMetrics):
        return masks_table(context, region_only if isinstance(region_only, MaskMetrics) else None)
    return points_table(context, None if isinstance(region_only, MaskMetrics) else region_only)


def aligned(rows: Sequence[Row]) -> list[str]:
    """Lines of a table: names of any length first, columns two spaces apart.

    Args:
        rows: Name and cells of each; none has more cells than the first.
    """
    cells = [[name, *values] for name, values in rows]
    widths = [
        max(len(row[place]) for row in cells if place < len(row)) for place in range(len(cells[0]))
    ]
    return [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)).rstrip()
        for row in cells
    ]


def _table(rows: Sequence[Row], last: str) -> str:
    """Titles, rows and a last line about all of it."""
    titles = ("with context", "region only")[: max(len(values) for _, values in rows)]
    return "\n".join([*aligned([("", titles), *rows]), last])


def _row(name: str, values: Sequence[Interval]) -> Row:
    return name, [_interval(value) for value in values]


def _interval(value: Interval) -> str:
    if not math.isfinite(value.value):
        return "-"
    if not math.isfinite(value.low):
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
