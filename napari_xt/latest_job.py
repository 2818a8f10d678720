"""Small jobs beside the window's thread; results come back in the main thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject

from napari_xt.beside import Beside

__all__ = ["LatestJob"]


class LatestJob(QObject):
    """Runs one job at a time and tells only the newest one's result.

    Jobs asked for while one is working replace each other, so that dragging a vertex does not
    pile up work. Errors of kind `XTError` are results too.

    Args:
        done: Takes the result, or the XTError, in the main thread.
        parent: Owner in the sense of Qt.
    """

    def __init__(self, done: Callable[[Any], None], parent: QObject) -> None:
        super().__init__(parent)
        self._done = done
        self._beside = Beside(self._take, self, "xt-look")
        self._wanted = False
        self._next: Callable[[], Any] | None = None
        self._working = False

    @property
    def working(self) -> bool:
        """Whether a job is going on, heard or not."""
        return self._working

    def ask(self, job: Callable[[], Any]) -> None:
        """Work this off as soon as the job in hand is done, unless a newer one comes."""
        self._next = job
        self._start()

    def forget(self) -> None:
        """Let results of jobs asked for so far go unheard."""
        self._next, self._wanted = None, False

    def _start(self) -> None:
        job = self._next
        if self._working:
            self._wanted = False
        elif job is not None:
            self._next = None
            self._working = self._wanted = True
            self._beside.start(lambda tell: tell(job()))

    def _take(self) -> None:
        for result in self._beside.told():
            wanted, self._working = self._wanted, False
            self._beside.leave()
            self._start()
            if wanted:
                self._done(result)
