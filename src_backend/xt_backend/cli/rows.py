"""A row of slides.csv as one line for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend.keys import SlideStatus

if TYPE_CHECKING:
    from xt_backend.outputs import SlideRow

__all__ = ["summary"]


def summary(row: SlideRow) -> str:
    """What became of a slide."""
    if row.status == SlideStatus.FAILED:
        return f"FAILED. {row.reason}"
    if row.status == SlideStatus.EMPTY:
        return f"empty: {row.reason}"
    parts = [f"{row.n_regions} regions, {row.encoded_regions} encoded now"]
    if row.predicted:
        parts.append(f"{row.predicted} {row.probabilities[row.predicted]:.1%}")
    if row.fractions:
        parts.append(", ".join(f"{name} {share:.1%}" for name, share in row.fractions.items()))
    if row.seconds_total:
        parts.append(f"{row.seconds_total:.1f} s")
    if row.reason:
        parts.append(row.reason)
    return "; ".join(parts)
