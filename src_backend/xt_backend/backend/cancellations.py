"""Which runs were asked to stop."""

from __future__ import annotations

import threading

__all__ = ["Cancellations"]


class Cancellations:
    """Remembers a wish to stop from a run's submission to its end, and no longer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, bool] = {}

    def begin(self, run_id: str) -> None:
        """A run is submitted; what was asked of an earlier one of this name is forgotten."""
        with self._lock:
            self._asked[run_id] = False

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop; unknown or finished ones are ignored."""
        with self._lock:
            if run_id in self._asked:
                self._asked[run_id] = True

    def cancelled(self, run_id: str) -> bool:
        """Whether a run was asked to stop."""
        return self._asked.get(run_id, False)

    def end(self, run_id: str) -> None:
        """A run is over."""
        with self._lock:
            self._asked.pop(run_id, None)
