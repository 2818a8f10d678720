"""What the window says about runs and results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend.keys import RegionStatus

if TYPE_CHECKING:
    from xt_backend.engine.events import RunFinished
    from xt_backend.slides import SlideInfo
    from xt_backend.store import ScoreMap

__all__ = ["about_slide", "duration", "is_decoding", "slide_headline", "summary"]


def about_slide(info: SlideInfo) -> str:
    """How large a slide is, or why that is not known."""
    size = f"{info.width_px:,} × {info.height_px:,} px"
    if info.mpp is not None:
        width_mm, height_mm = info.width_px * info.mpp.x / 1000, info.height_px * info.mpp.y / 1000
        return f"{size}, {width_mm:.1f} × {height_mm:.1f} mm"
    words = f"{size}; {info.mpp_problem}."
    if info.objective_power:
        usual = 10 / info.objective_power
        words += f" A {info.objective_power:g}x objective usually means {usual:g} µm per pixel."
    return words


def duration(seconds: float) -> str:
    """A time for people: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def summary(event: RunFinished) -> str:
    """How a run ended."""
    score_map = event.score_map
    if score_map is None:
        return "Cancelled before the first region was scored."
    scored = int(score_map.scored.sum())
    total = len(score_map.status)
    if event.cancelled and is_decoding(score_map):
        return f"Cancelled: all {total:,} regions are scored, but not all of them in detail."
    if event.cancelled:
        return f"Cancelled: {scored:,} of {total:,} regions are scored, the others are marked."
    words = [f"Done: {scored:,} regions"]
    if event.seconds.get("total"):
        words.append(f"in {duration(event.seconds['total'])}")
    if event.cache == "hit":
        words.append("from an earlier run's store")
    if event.points is not None:
        words.append(f", {len(event.points):,} points")
    if score_map.n_failed:
        words.append(f"; {score_map.n_failed:,} could not be read and are marked")
    return " ".join(words).replace(" ,", ",").replace(" ;", ";") + "."


def is_decoding(score_map: ScoreMap) -> bool:
    """Whether a cancelled run had scored all regions, and only their pixels were missing."""
    return not score_map.status_counts()[RegionStatus.SKIPPED]


def slide_headline(score_map: ScoreMap) -> str:
    """What the model says of the whole slide; empty for region models."""
    if score_map.slide_logits is None:
        return ""
    probabilities = score_map.slide_probabilities
    best = int(probabilities.argmax())
    return f"The slide as a whole: {score_map.slide_label} ({probabilities[best]:.0%})."
