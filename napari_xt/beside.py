"""Work beside the window's thread; what it tells arrives there, in order."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from qtpy.QtCore import QObject, QTimer

from xt_backend.errors import EngineError, XTError

__all__ = ["Beside", "Tell"]

POLL_MS = 30

Tell = Callable[[Any], None]

_log = logging.getLogger(__name__)


class Beside(QObject):
    """Does one piece of work in a daemon thread, of which a timer hands on what it tells.

    The newest work alone is heard. What ends it as an error is told last, as an `XTError`.

    Args:
        take: Called in the main thread again and again while something may come; it asks `told`.
        parent: Owner in the sense of Qt.
        name: Of the thread.

    Attributes:
        worker: The thread of the newest work; None before any.
    """

    def __init__(self, take: Callable[[], None], parent: QObject, name: str) -> None:
        super().__init__(parent)
        self._name = name
        self.worker: threading.Thread | None = None
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(take)

    def start(self, work: Callable[[Tell], None]) -> None:
        """Do this; what came before goes on unheard.

        Args:
            work: Called in the thread, with what it tells through.
        """
        self._inbox = queue.SimpleQueue()
        arguments = (work, self._inbox.put)
        self.worker = threading.Thread(target=_work, args=arguments, name=self._name, daemon=True)
        self.worker.start()
        self._timer.start()

    def told(self) -> Iterator[Any]:
        """What has come, one after the other; ends when nothing is left, or nobody listens."""
        inbox = self._inbox
        while inbox is self._inbox:
            try:
                yield inbox.get_nowait()
            except queue.Empty:
                return

    def leave(self) -> None:
        """Listen no more."""
        self._inbox = queue.SimpleQueue()
        with contextlib.suppress(RuntimeError):  # Qt may have deleted the timer before
            self._timer.stop()


def _work(work: Callable[[Tell], None], tell: Tell) -> None:
    try:
        work(tell)
    except XTError as error:
        tell(error)
    except Exception as error:
        _log.exception("work beside the window failed")
        tell(EngineError(f"Unexpected {type(error).__name__}: {error}", "Try again"))
