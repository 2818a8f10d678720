"""What a batch would do and take, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xt_backend.keys import SlideStatus
from xt_backend.wording import counted, size_words

from .console import print_json, say, warn

if TYPE_CHECKING:
    from xt_backend.batch import DryRun, Inputs
    from xt_backend.batch.dry import Expected

__all__ = ["show_dry_run"]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def show_dry_run(look: DryRun, inputs: Inputs, json: bool) -> None:
    """Print what would become of every slide, and what all of them would take.

    Args:
        look: What was found.
        inputs: What was asked for.
        json: As one JSON object; warnings then go to stderr.
    """
    expected = look.expected
    if json:
        passed_over = inputs.passed_over_values()
        values = {"slides": look.rows, "passed_over": passed_over, "expected": expected.to_dict()}
        print_json(values)
    else:
        for row in look.rows:
            say(_line(row))
        say(" ".join(_sentences(expected)))
    for what, space in (("features", expected.cache), ("files", expected.out)):
        if space is not None and space.lacks:
            warn(f"{space.folder} has not enough space for the {what}")


def _line(row: dict[str, Any]) -> str:
    if row["status"] == SlideStatus.FAILED:
        return f"{row['slide']}: cannot be scored: {row['reason']}"
    return (
        f"{row['slide']}: {counted(row['n_regions'], 'region')} ({row['n_cached']:,} cached) at "
        f"{row['slide_mpp']:.4g} um/px from {row['mpp_source']}; {row['reason'] or 'tissue found'}"
    )


def _sentences(expected: Expected) -> Iterator[str]:
    slides = counted(expected.n_slides, "slide")
    regions = counted(expected.n_regions, "region")
    rate = ""
    if expected.regions_per_s:
        rate = f" at {expected.regions_per_s:,.1f} regions/s ({expected.rate_from})"
    yield (
        f"In all {slides} with {regions}, {expected.n_encode:,} to encode: about "
        f"{_span(expected.seconds)} with one worker here{rate}."
    )
    for what, space in (("Features", expected.cache), ("Files", expected.out)):
        if space is not None:
            yield (
                f"{what} take about {size_words(space.needed_bytes)} in {space.folder} "
                f"({size_words(space.free_bytes)} free)."
            )


def _span(seconds: float) -> str:
    """The two largest units, such as ``3 h 20 min``."""
    left = max(1, round(seconds))
    parts: list[tuple[int, str]] = []
    for length, unit in _UNITS:
        n, left = divmod(left, length)
        if n or parts:
            parts.append((n, unit))
    return " ".join(f"{n} {unit}" for n, unit in parts[:2] if n)
