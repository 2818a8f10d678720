"""Slides as they come to their ends, with a table that is right whenever the batch ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from xt_backend.errors import OutputError
from xt_backend.keys import Stopped

from .outcome import Outcome
from .plan import Task
from .report import RunReport
from .result import count_slides
from .rows import stopped_row
from .table import SlideTable

__all__ = ["Results", "run_tasks"]

Results: TypeAlias = Iterable[tuple[Task, Outcome | Stopped]]
"""Tasks in any order, each once, with how it went or why it has no result."""


def run_tasks(
    tasks: Sequence[Task],
    table: SlideTable,
    report: RunReport,
    results: Results,
    recover: Callable[[Task], Outcome | None],
    on_outcome: Callable[[Task, Outcome], None],
) -> dict[int, Stopped]:
    """Take the results of tasks; publish slides.csv and run.json now and then and at the end.

    Both are published too when an error ends the batch: what was reached is told, and the rest
    has the row that it had, or one that says that it was not started.

    Args:
        tasks: In the order in which they are done.
        table: Gets a row for each.
        report: Gets every outcome.
        results: Of the tasks; ends early after an interruption.
        recover: What an earlier call made of a task that is not reached; None where it is not
            finished.
        on_outcome: Told the task and how it went.

    Returns:
        By row: why a slide has no result, after an interruption.

    Raises:
        OutputError: The output cannot be written.
    """
    stopped: dict[int, Stopped] = {}
    left = {task.slide_id: task for task in tasks}

    def stop(task: Task, how: Stopped) -> None:
        stopped[task.source.row] = how
        table.add(stopped_row(task, how))

    def take(task: Task, outcome: Outcome) -> None:
        report.take(outcome)
        table.add(outcome.row)
        on_outcome(task, outcome)

    try:
        with report.stages.timed("open"):
            for task in tasks:
                if table.lacks(task.slide_id) and (outcome := recover(task)) is not None:
                    table.add(outcome.row)  # A killed call left its files, but no row
        with report.stages.timed("write"):
            table.write()  # whoever looks finds a row for every slide
        for task, result in results:
            del left[task.slide_id]
            if isinstance(result, Outcome):
                take(task, result)
            elif (found := recover(task)) is not None:
                take(task, found)
            else:
                stop(task, result)
            if table.due:
                with report.stages.timed("write"):
                    table.write()
                    report.write("running", {})
        for task in left.values():
            if (found := recover(task)) is not None:
                take(task, found)
            else:
                stop(task, Stopped.NOT_STARTED)
    except BaseException:
        for place, task in enumerate(left.values()):
            if not table.is_done(task.slide_id):
                stop(task, Stopped.NOT_STARTED if place else Stopped.INTERRUPTED)
        # The error that ends the batch is the one to be told.
        with contextlib.suppress(OutputError):
            table.write()
            report.write("interrupted", count_slides(table.rows, stopped))
        raise
    with report.stages.timed("write"):
        table.write()
    report.write("interrupted" if stopped else "finished", count_slides(table.rows, stopped))
    return stopped
