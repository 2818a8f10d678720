"""Drives work of the backend that is no run: its events arrive in the main thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_xt.beside import Beside, Tell
from xt_backend.errors import XTError

if TYPE_CHECKING:
    from xt_backend.backend import Backend, Job

__all__ = ["JobSession"]


class JobSession(QObject):
    """One job at a time, none of it in the window's thread.

    Args:
        parent: Owner in the sense of Qt.
    """

    told = Signal(object)
    """What the job tells on its way."""
    finished = Signal(object)
    """Its result, None where it was cancelled."""
    failed = Signal(object)
    changed = Signal()
    """Whether a job is going on; told before its result."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._beside = Beside(self._take, self, "xt-job")
        self._job: Job | None = None
        self._backend: Backend | None = None

    @property
    def running(self) -> bool:
        """Whether a job is going on."""
        return self._job is not None

    def start(self, backend: Backend, job: Job) -> None:
        """Start a job; there must be none."""
        self._backend, self._job = backend, job
        self._beside.start(partial(_pump, backend, job))
        self.changed.emit()

    def cancel(self) -> None:
        """Ask it to stop; `finished` follows with None."""
        if self._job is not None and self._backend is not None:
            self._backend.cancel(self._job.run_id)

    def end(self) -> None:
        """Cancel it without waiting for its answer; `finished` is told None at once."""
        if self._job is not None:
            self.cancel()
            self._rest()
            self.finished.emit(None)

    def _rest(self) -> None:
        self._beside.leave()
        self._job = None
        self.changed.emit()

    def _take(self) -> None:
        from xt_backend.engine.events import JobFinished, JobTold

        latest: JobTold | None = None
        for event in self._beside.told():
            if isinstance(event, JobTold):
                latest = event
                continue
            self._rest()
            if isinstance(event, JobFinished):
                self.finished.emit(event.result)
            else:
                self.failed.emit(event if isinstance(event, XTError) else event.error)
            return
        if latest is not None:
            self.told.emit(latest.told)


def _pump(backend: Backend, job: Job, tell: Tell) -> None:
    for event in backend.work(job):
        tell(event)
