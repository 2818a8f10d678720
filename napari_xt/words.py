"""What the window says about runs and results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xt.doubts import doubt_words
from napari_xt.plain_words import HERE, plain, plain_source
from napari_xt.run_session import CancelledEarly
from xt_backend.keys import RegionStatus
from xt_backend.wording import counted

if TYPE_CHECKING:
    from xt_backend.engine.events import RegionsDecoded, RegionsScored, RunFinished
    from xt_backend.slides import SlideInfo
    from xt_backend.store import ScoreMap

__all__ = [
    "CLOSED",
    "SO_FAR",
    "TAKEN_OUT",
    "about_slide",
    "as_sentences",
    "caution_words",
    "decoded_words",
    "device_words",
    "duration",
    "elsewhere_words",
    "how_far",
    "judged_alone",
    "missing_mpp",
    "mpp_note",
    "mpp_source",
    "nothing_words",
    "partial_words",
    "progress_words",
    "slide_headline",
    "summary",
    "turn_words",
]

CLOSED = "The slide was closed, so its run is being cancelled."
SO_FAR = "So far each region alone; they are judged together when all have been read."
TAKEN_OUT = "Not run: it was cancelled before its turn."


def about_slide(info: SlideInfo) -> str:
    """How large the scanned part of a slide is; in mm too where its pixel size is known."""
    _, _, width_px, height_px = info.bounds_px
    size = f"{width_px:,} × {height_px:,} px{' scanned' if info.has_bounds else ''}"
    if info.mpp is None:
        return size
    width_mm, height_mm = width_px * info.mpp.x / 1000, height_px * info.mpp.y / 1000
    return f"{size}, {width_mm:.1f} × {height_mm:.1f} mm"


def mpp_source(info: SlideInfo) -> str:
    """Where the pixel size of a slide comes from, to be added to what is said of it."""
    if info.mpp is None:
        return ""
    return f"\nPixel size {plain_source(info.mpp.source)}"


def missing_mpp(info: SlideInfo) -> str:
    """Why the pixel size of a slide has to be entered, and what it may be."""
    words = as_sentences(plain(info.mpp_problem))
    if info.objective_power:
        usual = 10 / info.objective_power
        words += f" A {info.objective_power:g}x objective usually means {usual:g} µm per pixel."
    return words


def as_sentences(*notes: str) -> str:
    """Notes as sentences, each with a capital and a full stop."""
    ended = (note if note.endswith((".", "?", "!")) else f"{note}." for note in notes)
    return " ".join(note[:1].upper() + note[1:] for note in ended)


def device_words(name: str, reason: str) -> str:
    """Which device a run uses and why."""
    return plain(f"Runs on {name} ({reason}).")


def duration(seconds: float) -> str:
    """A time for people: seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def turn_words(before: int) -> str:
    """That a slide waits for its turn.

    Args:
        before: Runs that end first, that which is going on among them.
    """
    return f"Waits for its turn, after {counted(before, 'run')}. You can go on with another slide."


def elsewhere_words(name: str) -> str:
    """What a slide without a run says while another one has it."""
    return f"{name} is being run; choose it above to watch it. “Run xT” runs this slide after it."


def progress_words(event: RegionsScored) -> str:
    """How far a run is."""
    if event.stage == "decode":
        return "All regions are scored; now each is looked at in detail …"
    if event.stage == "context":
        return "All regions are read; looking at them together …"
    words = [f"{event.done:,} of {counted(event.total, 'region')}"]
    if event.regions_per_s:
        words.append(f"{event.regions_per_s:.1f} regions/s")
    if event.seconds_left is not None:
        words.append(f"{duration(event.seconds_left)} left")
    return " · ".join(words)


def decoded_words(event: RegionsDecoded) -> str:
    """How far a run is with the detail."""
    what = "masks" if event.stage == "dense" else "points"
    return (
        f"Looking closer: {what} of {event.done:,} of {counted(event.total, 'region')} · "
        f"{event.regions_per_s:.1f} regions/s · {duration(event.seconds_left)} left"
    )


def summary(event: RunFinished | CancelledEarly) -> str:
    """How a run ended."""
    if isinstance(event, CancelledEarly):
        return "Cancelled before the first region was scored."
    score_map = event.score_map
    scored = int(score_map.scored.sum())
    total = len(score_map.status)
    if event.cancelled and not score_map.status_counts()[RegionStatus.SKIPPED]:
        short = "but each alone" if judged_alone(score_map) else "but not all of them in detail"
        return f"Cancelled: all {total:,} regions are scored, {short}."
    if event.cancelled:
        of_all = f"{scored:,} of {counted(total, 'region')}"
        return f"Cancelled: {of_all} are scored, the others are marked."
    words = [f"Done: {counted(scored, 'region')}"]
    if event.seconds.get("total"):
        words.append(f"in {duration(event.seconds['total'])}")
    if event.cache == "hit":
        words.append("from what an earlier run has kept")
    if event.points is not None:
        words.append(f", {counted(len(event.points), 'point')}")
    if score_map.n_failed:
        words.append(f"; {score_map.n_failed:,} could not be read and are marked")
    if n_out := score_map.status_counts()[RegionStatus.SCREENED_OUT]:
        words.append(f"; {n_out:,} were not looked at and are marked")
    if n_out := score_map.status_counts()[RegionStatus.EXCLUDED]:
        words.append(f"; {n_out:,} were left out as doubtful and are marked")
    done = " ".join(words).replace(" ,", ",").replace(" ;", ";")
    return f"{done}. {caution_words(score_map)}".strip()


def caution_words(score_map: ScoreMap) -> str:
    """Why to be careful with a result: what its run warned of, and doubtful regions."""
    warnings = [f"Warning: {plain(text)}." for text in score_map.warnings]
    return " ".join(filter(None, [*warnings, doubt_words(score_map)]))


def nothing_words(*, drawn: bool) -> str:
    """That a run found nothing to score, and what can be done.

    Args:
        drawn: Whether an area had been drawn.
    """
    if drawn:
        return (
            "Nothing was scored: there is no tissue in the area. Draw it over the tissue, or "
            f"choose “All tissue” {HERE}."
        )
    return (
        "Nothing was scored: no tissue was found. Move the slider “Tissue”, or choose “Everything "
        f"scanned” as the area {HERE}."
    )


def how_far(event: RunFinished) -> tuple[int | None, int | None]:
    """Regions that a run that has ended was through with, and how many it had to do.

    None for what the last event before told already.
    """
    score_map = event.score_map
    skipped = score_map.status_counts()[RegionStatus.SKIPPED]
    if event.cancelled and not skipped and not judged_alone(score_map):
        return None, None  # among the pixels of the regions
    total = len(score_map.status)
    return total - skipped, max(1, total)


def partial_words(score_map: ScoreMap, why: str) -> str:
    """What a run has to show that did not come to its end.

    Args:
        score_map: As far as it came.
        why: What ended it.
    """
    if judged_alone(score_map):
        return f"Partial: {why}, and judged without context."
    return f"Partial: {why} before all regions were in detail."


def judged_alone(score_map: ScoreMap) -> bool:
    """Whether no region was judged together with others (yet)."""
    return np.array_equal(score_map.logits, score_map.region_only_logits, equal_nan=True)


def mpp_note(score_map: ScoreMap, info: SlideInfo) -> str:
    """That a result was made with another pixel size than the file's; empty where it was not."""
    used = sum(score_map.slide_mpp) / 2
    if info.mpp is None or abs(used / info.mpp.value - 1) < 1e-6:
        return ""
    return f"Made with {used:g} µm per pixel, as was asked for; the file states {info.mpp.value:g}."


def slide_headline(score_map: ScoreMap) -> str:
    """What the model says of the whole slide; empty for region models."""
    probabilities, label = score_map.slide_probabilities, score_map.slide_label
    if probabilities is None:
        return ""
    if not label:
        return "The slide as a whole: no prediction."
    share = probabilities[score_map.classes.index(label)]
    return f"The slide as a whole: {label} ({share:.0%})."
