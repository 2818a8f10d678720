"""A task in the hands of a worker that is not in the process of its batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from xt_backend.engine import Event, RegionsDecoded, RegionsScored, RunPlanned
from xt_backend.errors import EngineError, OutputError
from xt_backend.keys import RunFile

from ..job import Job, Worker
from ..ledger import Ledger
from ..outcome import Interrupted
from ..plan import Task
from .messages import Broke, Done, GaveUp, Message, Seen

__all__ = ["anywhere", "anywhere_task", "work_off"]

_log = logging.getLogger(__name__)

_EVERY_S = 0.3
"""Progress is told at most this often."""

_BY_ROW = (
    "cells",
    "status",
    "logits",
    "region_only_logits",
    "tissue",
    "quality",
    "quality_measures",
)

Told = TypeVar("Told", bound=RunPlanned | RegionsScored)


def anywhere(job: Job) -> Job:
    """A job as a worker in another folder or on another machine understands it.

    All paths are absolute, and the cache is this machine's.

    Args:
        job: As planned here.
    """
    options = job.options
    found: dict[str, object] = {"cache": _absolute(options.cache_dir())}
    if isinstance(options.roi, Path):
        found["roi"] = _absolute(options.roi)
    if options.tissue not in ("auto", "all"):
        found["tissue"] = str(_absolute(Path(options.tissue)))
    folder = copy(job.folder)
    if folder is not None:
        folder.path = folder.path.absolute()
        folder.ledger = Ledger(folder.path / RunFile.LEDGER)
    return replace(
        job,
        model=str(_absolute(Path(job.model))),
        options=options.model_copy(update=found),
        folder=folder,
    )


def anywhere_task(task: Task) -> Task:
    """A task as a worker in another folder understands it."""
    source = task.source
    placed = replace(source, path=source.path.absolute(), roi=_absolute(source.roi))
    return replace(task, source=placed)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def work_off(
    worker: Worker,
    task: Task,
    tell: Callable[[Message], None],
    cancelled: Callable[[], bool],
) -> None:
    """Do a task and tell how it goes; the last message is `Done`, `GaveUp` or `Broke`.

    Args:
        worker: Who does it.
        task: The task.
        tell: Takes the messages, in the thread of the caller.
        cancelled: Asked after every read batch.
    """
    told = 0.0

    def watch(task: Task, event: Event) -> None:
        nonlocal told
        now = time.monotonic()
        progress = isinstance(event, RegionsScored | RegionsDecoded)
        if progress and now - told < _EVERY_S:
            return
        if (light := _light(event)) is not None:
            told = now
            tell(Seen(task, light))

    message: Message
    try:
        message = Done(worker.run(task, watch, cancelled))
    except Interrupted as interrupted:
        message = GaveUp(interrupted.how)
    except OutputError as error:
        message = Broke(error)
    except Exception as error:
        _log.exception("a worker failed")
        cause = f"A worker failed on {task.name}: {type(error).__name__}: {error}"
        message = Broke(EngineError(cause, "Please report this with the log"))
    tell(message)


def _light(event: Event) -> Event | None:
    """An event without what is large; None for the end, which the outcome tells."""
    if isinstance(event, RunPlanned | RegionsScored):
        return _without_rows(event)
    if isinstance(event, RegionsDecoded):
        masks = None if event.masks is None else event.masks[:0]
        return replace(event, cells=event.cells[:0], masks=masks, points=None)
    return None


def _without_rows(event: Told) -> Told:
    score_map = event.score_map
    rows = {name: value[:0] for name in _BY_ROW if (value := getattr(score_map, name)) is not None}
    return replace(event, score_map=replace(score_map, **rows))
