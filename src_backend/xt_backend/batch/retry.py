"""What is left to do of a run when its finished slides are not to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xt_backend.config import CommonOptions
from xt_backend.errors import UsageError, XTError

from .folder import RunFolder
from .outcome import Outcome
from .plan import Task

__all__ = ["told_before", "unfinished"]


def unfinished(
    folder: RunFolder | None,
    tasks: Sequence[Task],
    options: CommonOptions,
    previous: Mapping[str, Any],
) -> tuple[Task, ...]:
    """The tasks that have no result under their configuration: they failed or were not reached.

    Args:
        folder: Run directory.
        tasks: Of the batch.
        options: Of the batch.
        previous: What run.json said before.

    Raises:
        UsageError: The folder holds no run.
    """
    if folder is None or not previous:
        where = "no folder was named" if folder is None else f"{folder.path} holds no run"
        raise UsageError(
            f"There is nothing of which failures could be tried again: {where}",
            "Name the folder of a run with --out, or leave --retry-failed out",
        )
    return tuple(task for task in tasks if told_before(task, options, folder) is None)


def told_before(task: Task, options: CommonOptions, folder: RunFolder | None) -> Outcome | None:
    """What the ledger says of a slide under its configuration now; the slide is not looked at.

    Args:
        task: The slide.
        options: Of the batch.
        folder: Run directory.
    """
    known = None if folder is None else folder.known(task)
    if folder is None or known is None:
        return None
    try:
        same = known.configuration == folder.digest(task.own_options(options))
    except XTError:
        return None  # a ROI that is gone: told when its turn comes
    return known if same else None
