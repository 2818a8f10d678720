"""slides.csv and run.json from the ledger: after a kill, or after workers on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xt_backend.engine import Stages
from xt_backend.errors import InputNotFoundError, StoreError, UsageError
from xt_backend.keys import Encoding, RunFile, Stopped
from xt_backend.store import ScoreMap

from .folder import RunFolder
from .inputs import InputRow
from .ledger import Ledger
from .outcome import Outcome
from .plan import Task
from .report import RunReport
from .result import Run, count_slides
from .rows import scored_row
from .table import SlideTable

__all__ = ["summarise", "take_known"]


def summarise(run_dir: Path | str) -> Run:
    """Make slides.csv and run.json of a run anew, from the files of its slides alone.

    No slide is read and no model loaded. A slide without a result gets a row that says that it was
    not started. The seconds in run.json are then those of the slides, summed up.

    Args:
        run_dir: Folder of a run of ``score`` or ``features``, whatever state it is in.

    Raises:
        InputNotFoundError: There is no such folder.
        UsageError: It holds no run, or one of a version that kept no ledger.
        OutputError: They cannot be written.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise InputNotFoundError(f"There is no folder {path}", "Name the folder of a run")
    try:
        plan = Ledger(path / RunFile.LEDGER).read_plan()
    except StoreError as error:
        raise UsageError(
            f"{path} holds no {RunFile.LEDGER}/{RunFile.PLAN} to make the tables from: "
            f"{error.cause}",
            "Give the command that made the run once more",
        ) from error
    result = plan.result
    folder = RunFolder(path, dict(plan.configuration), result=lambda i: (result.replace("*", i),))
    folder.call = plan.call
    tasks = [Task(InputRow(row, Path(name), shown=name), id_) for row, name, id_ in plan.slides]
    table = SlideTable(folder, tasks, plan.classes, plan.kinds)
    report = RunReport(folder, plan.facts, Stages(), live=False)
    known = take_known(folder, tasks, table, report)
    for task in tasks:
        if table.lacks(task.slide_id) and (found := _score_map(folder, task)) is not None:
            row = scored_row(task, found, {}, 0, Encoding.HIT)
            known[task.slide_id] = Outcome(row, seen_nan=found.n_nan > 0)
            table.add(row)
    stopped = {task.source.row: Stopped.NOT_STARTED for task in tasks if task.slide_id not in known}
    table.write()
    report.write("interrupted" if stopped else "finished", count_slides(table.rows, stopped))
    return Run(
        rows=table.rows,
        classes=plan.classes,
        kinds=plan.kinds,
        folder=path,
        stopped=stopped,
        seen_nan=any(outcome.seen_nan for outcome in known.values()),
        seconds=report.seconds,
        passed_over=tuple(plan.facts.get("passed_over") or ()),
    )


def take_known(
    folder: RunFolder, tasks: Sequence[Task], table: SlideTable, report: RunReport
) -> dict[str, Outcome]:
    """Put what the ledger knows of some slides into the tables.

    Returns:
        By id: what became of these slides.
    """
    known = {}
    for task in tasks:
        if (outcome := folder.known(task)) is not None:
            table.add(outcome.row)
            report.take(outcome)
            known[task.slide_id] = outcome
    return known


def _score_map(folder: RunFolder, task: Task) -> ScoreMap | None:
    """Of a slide that is done, but whose entry is damaged; None where it has no such file."""
    path = folder.file(task.slide_id, RunFile.SCORE_MAP)
    try:
        return ScoreMap.load(path) if path.is_file() else None
    except StoreError:
        return None
