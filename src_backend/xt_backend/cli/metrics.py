"""Metrics as a table for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xt_backend.training import Interval, Metrics

__all__ = ["metrics_table"]


def metrics_table(context: Metrics, region_only: Metrics | None, unit: str = "regions") -> str:
    """One line a number, with its 95 % interval; the region-only head in a second column.

    Args:
        context: The model's prediction.
        region_only: The region-only head's, or None.
        unit: What was judged: ``regions`` or ``slides``.
    """
    columns = [("with context", context)]
    if region_only is not None:
        columns.append(("region only", region_only))
    lines = [f"{'':<24}" + "".join(f"{title:<24}" for title, _ in columns)]

    def line(name: str, values: list[Interval]) -> None:
        lines.append(f"{name:<24}" + "".join(f"{_interval(value):<24}" for value in values))

    for name in context.classes:
        line(f"F1 {name}", [metrics.f1[name] for _, metrics in columns])
    for name in context.classes:
        line(f"AUROC {name}", [metrics.auroc[name] for _, metrics in columns])
    line("macro F1", [metrics.macro_f1 for _, metrics in columns])
    line("balanced accuracy", [metrics.balanced_accuracy for _, metrics in columns])
    line("accuracy", [metrics.accuracy for _, metrics in columns])
    line("calibration error", [metrics.calibration_error for _, metrics in columns])
    failed = f", {context.n_failed} failed (counted as wrong)" if context.n_failed else ""
    judged = f"{context.n_regions} {unit}"
    if unit != "slides":
        judged += f" of {context.n_slides} slides"
    lines.append(judged + failed)
    return "\n".join(line.rstrip() for line in lines)


def _interval(value: Interval) -> str:
    if not math.isfinite(value.value):
        return "-"
    if not math.isfinite(value.low):
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
