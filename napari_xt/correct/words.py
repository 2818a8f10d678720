"""What the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_xt.plain_words import plain
from napari_xt.words import duration
from xt_backend.wording import counted

if TYPE_CHECKING:
    from xt_backend.training import Progress
    from xt_backend.training.tuning import TuneResult

__all__ = [
    "HOW",
    "NOTHING",
    "NO_MODEL",
    "OTHER_TASK",
    "PRESS_RUN",
    "RUN_GOING",
    "counts_words",
    "progress_words",
    "result_words",
]

_MANY = 0.1
"""Share of the regions that nobody corrected from which on their changes are to be looked at."""

NOTHING = "Run a model on the slide first; then correct what it got wrong."
NO_MODEL = "The model that made this result is not on this computer; run another one first."
OTHER_TASK = (
    "Only models that give each region a class can be corrected here. This one draws masks or "
    "points, or judges the slide as a whole."
)
RUN_GOING = "A run is going on. You can correct meanwhile, and train when it has ended."
PRESS_RUN = "The new model is chosen; press Run to see what it predicts."
HOW = (
    "Show the model what it got wrong: choose a class, then paint regions or outline tissue. A few "
    "regions of each kind are enough to begin with."
)


def counts_words(counts: dict[str, int]) -> str:
    """How much is corrected."""
    parts = [f"{name} {n:,}" for name, n in counts.items() if n]
    if not parts:
        return "No region is corrected yet."
    return f"Corrected: {counted(sum(counts.values()), 'region')} ({', '.join(parts)})."


def progress_words(progress: Progress, seconds: float) -> str:
    """How a training goes.

    Args:
        progress: As the backend tells it.
        seconds: Since the first of its steps.
    """
    if progress.stage == "encode":
        return f"Fetching what the model saw: {progress.done:,} of {progress.total:,} regions"
    if progress.stage != "train":
        return "Reading the slide and the corrections …"
    words = f"Step {progress.done:,} of {progress.total:,}"
    if 0 < progress.done < progress.total:
        left = seconds / progress.done * (progress.total - progress.done)
        words += f" · {duration(left)} left"
    return words


def result_words(result: TuneResult) -> str:
    """What a training achieved, and what it did not."""
    change = result.change
    n = sum(change.corrected.values())
    before, after = sum(change.right_before.values()), sum(change.right_after.values())
    words = (
        f"{result.card.name} is right on {after:,} of {counted(n, 'corrected region')} "
        f"({before:,} before). Of {change.others:,} others, {change.others_changed:,} were given "
        "another class."
    )
    if change.others_changed > _MANY * change.others:
        words += " That is many: paint regions that it had right as well, and train again."
    if before < n and not change.others_changed:
        words += " Nothing else is like them: where more is wrong, paint some of that, too."
    if after < n and after <= before:
        words += " It learnt little: correct more regions, or train thoroughly."
    notes = " ".join(f"{plain(note)}." for note in result.notes)
    return f"{words} {notes}".strip()
