"""A task in the hands of a worker that is not in the process of its batch."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from xt_backend.engine import RegionsDecoded, RegionsEncoded, RegionsScored, RunPlanned
from xt_backend.errors import EngineError, XTError
from xt_backend.keys import RunFile

from ..following import comes_to_its_end
from ..job import Job, Told, Worker
from ..ledger import Ledger
from ..outcome import Interrupted
from ..plan import Task
from .messages import Broke, Done, GaveUp, Message, NearEnd, Seen

__all__ = ["Upcoming", "anywhere", "anywhere_task", "work_off"]

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

JobType = TypeVar("JobType", bound=Job)
WithMap = TypeVar("WithMap", bound=RunPlanned | RegionsScored)


def anywhere(job: JobType) -> JobType:
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
    placed = replace(job, options=options.model_copy(update=found), folder=folder)
    return placed.absolute()


def anywhere_task(task: Task) -> Task:
    """A task as a worker in another folder understands it."""
    source = task.source
    placed = replace(source, path=source.path.absolute(), roi=_absolute(source.roi))
    return replace(task, source=placed)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


class Upcoming:
    """The task that a worker probably gets next, as whoever hands them out says.

    Told in one thread, asked in another.
    """

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def tell(self, task: Task) -> None:
        """Say which."""
        self._told.put(task)

    def take(self) -> Task | None:
        """What was said last, once; None where nothing was."""
        last = None
        with suppress(queue.Empty):
            while True:
                last = self._told.get_nowait()
        return last


def work_off(
    worker: Worker,
    task: Task,
    tell: Callable[[Message], None],
    cancelled: Callable[[], bool],
    upcoming: Upcoming,
) -> None:
    """Do a task and tell how it goes; the last message is `Done`, `GaveUp` or `Broke`.

    When the slide comes to its end, the one that is said to be next is begun beside all else.

    Args:
        worker: Who does it.
        task: The task.
        tell: Takes the messages, in the thread of the caller.
        cancelled: Asked after every read batch.
        upcoming: Says which task is next, after `NearEnd`.
    """
    told_at = 0.0
    asked = False
    upcoming.take()  # said of the task before

    def watch(task: Task, told: Told) -> None:
        nonlocal told_at, asked
        now = time.monotonic()
        if not asked and comes_to_its_end(told):
            asked = True
            tell(NearEnd())
        after = upcoming.take()
        if after is not None and after.slide_id != task.slide_id:
            worker.begin(after)
        progress = isinstance(told, RegionsScored | RegionsDecoded | RegionsEncoded)
        if progress and now - told_at < _EVERY_S:
            return
        if (light := _light(told)) is not None:
            told_at = now
            tell(Seen(task, light))

    message: Message
    try:
        worker.ready()
        message = Done(worker.run(task, watch, cancelled))
    except Interrupted as interrupted:
        message = GaveUp(interrupted.how)
    except XTError as error:  # of this worker or the output: what is wrong with a slide is a row
        message = Broke(error)
    except Exception as error:
        _log.exception("a worker failed")
        cause = f"A worker failed on {task.name}: {type(error).__name__}: {error}"
        message = Broke(EngineError(cause, "Please report this with the log"))
    tell(message)


def _light(event: Told) -> Told | None:
    """An event without what is large; None for the end, which the outcome tells."""
    if isinstance(event, RegionsEncoded):
        return event
    if isinstance(event, RunPlanned | RegionsScored):
        return _without_rows(event)
    if isinstance(event, RegionsDecoded):
        masks = None if event.masks is None else event.masks[:0]
        return replace(event, cells=event.cells[:0], masks=masks, points=None)
    return None


def _without_rows(event: WithMap) -> WithMap:
    score_map = event.score_map
    rows = {name: value[:0] for name in _BY_ROW if (value := getattr(score_map, name)) is not None}
    return replace(event, score_map=replace(score_map, **rows))
