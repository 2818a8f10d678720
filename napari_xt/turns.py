"""Work for the window's thread, a piece at a time, so that the window answers in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer

__all__ = ["Turns"]

BETWEEN_MS = 15
"""Long enough for a paint and for the mouse."""


class Turns(QObject):
    """Does one job after the other, each in a turn of the event loop of its own.

    Args:
        parent: Owner in the sense of Qt; jobs that are left when it goes are not done.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._jobs: deque[Callable[[], None]] = deque()
        self._timer = QTimer(self)
        self._timer.setInterval(BETWEEN_MS)
        self._timer.timeout.connect(self._next)

    def later(self, job: Callable[[], None]) -> None:
        """Do this in a later turn, after what was asked for before."""
        self._jobs.append(job)
        self._timer.start()

    @property
    def waiting(self) -> bool:
        """Whether there is something left to do."""
        return bool(self._jobs)

    def _next(self) -> None:
        job = self._jobs.popleft()
        if not self._jobs:
            self._timer.stop()
        job()
