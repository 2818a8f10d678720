"""Small jobs beside the window's thread; results come back in the main thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer

from xt_backend.errors import XTError

__all__ = ["LatestJob"]

POLL_MS = 40


class LatestJob(QObject):
    """Runs one job at a time and tells only the newest one's result.

    Jobs asked for while one is working replace each other, so that dragging a vertex does not
    pile up work. Errors of kind `XTError` are results too.

    Args:
        done: Takes the result, or the XTError, in the main thread.
        parent: Owner in the sense of Qt.
    """

    def __init__(self, done: Callable[[Any], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._done = done
        self._results: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._asked = 0
        self._next: tuple[int, Callable[[], Any]] | None = None
        self._working = False
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)

    def ask(self, job: Callable[[], Any]) -> None:
        """Work this off as soon as the job in hand is done, unless a newer one comes."""
        self._asked += 1
        self._next = (self._asked, job)
        self._start()

    def forget(self) -> None:
        """Let results of jobs asked for so far go unheard."""
        self._asked += 1
        self._next = None

    def _start(self) -> None:
        if self._working or self._next is None:
            return
        (number, job), self._next = self._next, None
        self._working = True
        threading.Thread(
            target=_work, args=(number, job, self._results), name="xt-look", daemon=True
        ).start()
        self._timer.start()

    def _poll(self) -> None:
        try:
            number, result = self._results.get_nowait()
        except queue.Empty:
            return
        self._working = False
        self._timer.stop()
        self._start()
        if number == self._asked:
            self._done(result)


def _work(number: int, job: Callable[[], Any], results: queue.SimpleQueue[tuple[int, Any]]) -> None:
    try:
        results.put((number, job()))
    except XTError as error:
        results.put((number, error))
    except Exception as error:
        # A preview only: the run itself will say what is wrong, with its traceback in the log.
        results.put((number, XTError(f"{type(error).__name__}: {error}")))
