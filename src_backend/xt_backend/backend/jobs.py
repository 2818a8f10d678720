"""Work that is no run: what it has to be, and how it is worked off."""

from __future__ import annotations

import importlib
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from xt_backend.engine.events import Event, JobEvent, RunFailed
from xt_backend.engine.pace import PaceJob
from xt_backend.engine.spec import RunSpec
from xt_backend.errors import EngineError, XTError

if TYPE_CHECKING:
    from xt_backend.engine import Engine

__all__ = ["AnyEvent", "Job", "NamedJob", "Work", "events_of", "is_question"]

AnyEvent: TypeAlias = Event | JobEvent

_log = logging.getLogger(__name__)


class Job(Protocol):
    """Work of rooms that this one does not know; plain data, as it may cross a process border."""

    @property
    def run_id(self) -> str:
        """Names it in events and in `Backend.cancel`."""
        ...

    def events(self, cancelled: Callable[[], bool]) -> Iterator[JobEvent]:
        """Do it. The last event is a `JobFinished`, unless it raises.

        Args:
            cancelled: Asked between two steps.
        """
        ...


@dataclass(frozen=True)
class NamedJob:
    """Work of a function that only its process has to load.

    Attributes:
        function: ``package.module:name``. Called with `run_id`, `cancelled` and the arguments, it
            gives events as of `Job.events`.
        arguments: Plain data.
        run_id: Names it in events and in `Backend.cancel`.
    """

    function: str
    arguments: dict[str, Any]
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def events(self, cancelled: Callable[[], bool]) -> Iterator[JobEvent]:
        """Call it."""
        module, _, name = self.function.partition(":")
        work = getattr(importlib.import_module(module), name)
        yield from work(self.run_id, cancelled, **self.arguments)


Work: TypeAlias = RunSpec | PaceJob | Job


def is_question(work: Work) -> bool:
    """Whether work takes a moment only, so that it does not wait for runs."""
    return bool(getattr(work, "is_question", False))


def events_of(
    work: Work, engine: Callable[[], Engine], cancelled: Callable[[], bool]
) -> Iterator[AnyEvent]:
    """Work something off in this process; what ends it is told as an event.

    Args:
        work: A run or a job.
        engine: Gives what does runs.
        cancelled: Whether it was asked to stop.
    """
    if isinstance(work, RunSpec):
        yield from engine().run(work, cancelled)
        return
    try:
        if isinstance(work, PaceJob):  # it shares the model with the runs
            yield from work.events_with(engine().loaded, cancelled)
        else:
            yield from work.events(cancelled)
    except XTError as error:
        yield RunFailed(work.run_id, error)
    except Exception as error:
        _log.exception("a job failed")
        failure = EngineError(
            f"Unexpected {type(error).__name__}: {error}", "Please report this with the log"
        )
        yield RunFailed(work.run_id, failure)
