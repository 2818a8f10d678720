"""One slide after another, with a table that is right whenever the batch ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from xt_backend.errors import OutputError
from xt_backend.keys import Stopped

from .report import RunReport
from .result import count_slides
from .rows import stopped_row
from .table import SlideTable
from .task import Interrupted, Outcome, Task

__all__ = ["run_tasks"]


def run_tasks(
    tasks: Sequence[Task],
    table: SlideTable,
    report: RunReport,
    work: Callable[[Task], Outcome],
    recover: Callable[[Task], Outcome | None],
    on_outcome: Callable[[Task, Outcome], None],
) -> dict[int, Stopped]:
    """Do the tasks; publish slides.csv and run.json now and then and at the end.

    Both are published too when an error ends the batch: what was reached is told, and the rest
    has the row that it had, or one that says that it was not started.

    Args:
        tasks: In the order of the inputs.
        table: Gets a row for each.
        report: Gets every outcome.
        work: Does a task.
        recover: What an earlier call made of a task that is not reached; None where it is not
            finished.
        on_outcome: Told the task and how it went.

    Returns:
        By row: why a slide has no result, after an interruption.

    Raises:
        OutputError: The output cannot be written.
    """
    stopped: dict[int, Stopped] = {}
    ended = False
    reached = 0

    def stop(task: Task, how: Stopped) -> None:
        stopped[task.source.row] = how
        table.add(stopped_row(task, how))

    report.write("running", {})
    try:
        for task in tasks:
            if table.lacks(task.slide_id) and (outcome := recover(task)) is not None:
                table.add(outcome.row)  # A killed call left its files, but no row
        for task in tasks:
            try:
                outcome = recover(task) if ended else work(task)
                how = Stopped.NOT_STARTED
            except Interrupted as interrupted:
                ended = True
                outcome, how = recover(task), interrupted.how
            reached += 1
            if outcome is None:
                stop(task, how)
            else:
                report.take(outcome)
                table.add(outcome.row)
                on_outcome(task, outcome)
            if table.due:
                table.write()
                report.write("running", {})
    except BaseException:
        for place, task in enumerate(tasks[reached:]):
            if not table.is_done(task.slide_id):
                stop(task, Stopped.NOT_STARTED if place else Stopped.INTERRUPTED)
        # The error that ends the batch is the one to be told.
        with contextlib.suppress(OutputError):
            table.write()
            report.write("interrupted", count_slides(table.rows, stopped))
        raise
    table.write()
    report.write("interrupted" if stopped else "finished", count_slides(table.rows, stopped))
    return stopped
