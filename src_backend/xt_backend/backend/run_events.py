"""The events of one run, and what a closed backend answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from xt_backend.engine.events import Event, RunFailed
from xt_backend.errors import BackendDiedError

__all__ = ["RunEvents", "closed_error", "closed_run"]


class RunEvents(Iterator[Event]):
    """Whoever leaves the events of a run before its end stops the run.

    Args:
        events: Of a run that is handed over.
        leave: Called once: after the last event, or as soon as nobody wants another.
    """

    def __init__(self, events: Generator[Event, None, None], leave: Callable[[], object]) -> None:
        self._events = events
        self._leave: Callable[[], object] | None = leave

    def __next__(self) -> Event:
        """The next event; waits for it."""
        try:
            return next(self._events)
        except BaseException:  # its end, too
            self.close()
            raise

    def close(self) -> None:
        """Want no more of them."""
        leave, self._leave = self._leave, None
        if leave is not None:
            self._events.close()
            leave()

    def __del__(self) -> None:
        self.close()


def closed_error() -> BackendDiedError:
    """Why a closed backend does nothing."""
    return BackendDiedError("The backend is closed", "Open a new one")


def closed_run(run_id: str) -> Iterator[Event]:
    """The only event of a run that is submitted to a closed backend."""
    return iter((RunFailed(run_id, closed_error()),))
