"""The events of one run, and what a closed backend answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator

from xt_backend.engine.events import RunFailed
from xt_backend.errors import BackendDiedError

from .jobs import AnyEvent

__all__ = ["RunEvents", "closed_error", "closed_run"]


class RunEvents(Iterator[AnyEvent]):
    """Whoever leaves the events of a run before its end stops the run, from any thread.

    Args:
        events: Of a run that is handed over.
        leave: Called once: after the last event, or as soon as nobody wants another.
    """

    def __init__(
        self, events: Generator[AnyEvent, None, None], leave: Callable[[], object]
    ) -> None:
        self._events = events
        self._leave: Callable[[], object] | None = leave

    def __next__(self) -> AnyEvent:
        """The next event; waits for it."""
        try:
            event = next(self._events)
        except BaseException:  # its end, too
            self.close()
            raise
        if self._leave is None:  # another thread closed them meanwhile
            self._events.close()
            raise StopIteration
        return event

    def close(self) -> None:
        """Want no more of them."""
        leave, self._leave = self._leave, None
        if leave is None:
            return
        try:
            # Another thread may be waiting in them: it closes them when it has the next one.
            with contextlib.suppress(ValueError):
                self._events.close()
        finally:
            leave()

    def __del__(self) -> None:
        self.close()


def closed_error() -> BackendDiedError:
    """Why a closed backend does nothing."""
    return BackendDiedError("The backend is closed", "Open a new one")


def closed_run(run_id: str) -> Iterator[AnyEvent]:
    """The only event of a run that is submitted to a closed backend."""
    return iter((RunFailed(run_id, closed_error()),))
