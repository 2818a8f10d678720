"""A run's events as progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import TaskID

from .console import Bars, note, progress_bar

if TYPE_CHECKING:
    from xt_backend.batch import Outcome, Task, Told
    from xt_backend.training import Progress as StageProgress
    from xt_backend.training import ProgressCallback

__all__ = ["RunBar", "stage_bars", "tell_problems"]


_STAGES = {
    "encode": "",
    "context": "context",
    "decode": "pixels",
    "dense": "pixels",
    "detect": "points",
}


class RunBar:
    """One bar for the regions of each slide in hand and, with several slides, one for them.

    Args:
        n_slides: Slides of the batch.
    """

    def __init__(self, bar: Bars, n_slides: int) -> None:
        self._bar = bar
        self._slides: TaskID | None = (
            bar.add_task("slides", total=n_slides) if n_slides > 1 else None
        )
        self._regions: dict[str, TaskID] = {}

    def on_event(self, task: Task, event: Told) -> None:
        """Show an event of the run of `task`."""
        from xt_backend.engine import RegionsDecoded, RegionsEncoded, RegionsScored, RunPlanned

        if isinstance(event, RunPlanned):
            self._drop(task)
            self._regions[task.slide_id] = self._bar.add_task(task.name, total=event.n_regions)
        elif isinstance(event, RegionsEncoded):
            if task.slide_id not in self._regions:
                self._regions[task.slide_id] = self._bar.add_task(task.name, total=event.total)
            self._bar.update(self._regions[task.slide_id], completed=event.done, total=event.total)
        elif isinstance(event, RegionsScored | RegionsDecoded) and task.slide_id in self._regions:
            # Only what was selected is decoded, and of that only what could be read.
            waits = event.stage == "decode"
            self._bar.update(
                self._regions[task.slide_id],
                completed=0 if waits else event.done,
                total=event.total,
                rate=0.0 if waits else event.regions_per_s,
                description=f"{task.name} {_STAGES[event.stage]}".rstrip(),
            )

    def on_outcome(self, task: Task, outcome: Outcome) -> None:
        """A slide is done, failed or empty."""
        tell_problems(task, outcome)
        self._drop(task)
        if self._slides is not None:
            self._bar.advance(self._slides)

    def _drop(self, task: Task) -> None:
        if (regions := self._regions.pop(task.slide_id, None)) is not None:
            self._bar.remove_task(regions)


def tell_problems(task: Task, outcome: Outcome) -> None:
    """Say on stderr what was wrong with the region store of a slide."""
    for problem in outcome.problems:
        note(f"{task.name}: {problem}")


@contextmanager
def stage_bars() -> Iterator[ProgressCallback]:
    """Bars for training and evaluation: one for each stage, with rate and time left."""
    with progress_bar() as bar:
        tasks: dict[str, TaskID] = {}
        reached: dict[str, int] = {}

        def show(progress: StageProgress) -> None:
            if progress.lines:
                for line in progress.lines:
                    note(line)
                return
            if progress.done < reached.get(progress.stage, 0):  # of the next fold: another clock
                bar.remove_task(tasks.pop(progress.stage))
            reached[progress.stage] = progress.done
            if progress.stage not in tasks:
                for done in tasks.values():
                    bar.update(done, visible=False)
                tasks[progress.stage] = bar.add_task(progress.stage, total=None)
            bar.update(
                tasks[progress.stage],
                completed=progress.done,
                total=progress.total or None,
                description=f"{progress.stage} {progress.message}".strip(),
                visible=True,
            )

        yield show
