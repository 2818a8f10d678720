"""How quick a first run would be, tried in the backend while nothing else is going on there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_xt.latest_job import LatestJob
from xt_backend.errors import XTError

if TYPE_CHECKING:
    from xt_backend.backend import Backend
    from xt_backend.engine.pace import PaceJob
    from xt_backend.engine.spec import RunSpec

__all__ = ["Pace"]

_Key = tuple[str, str, str]


class Pace(QObject):
    """Tries one run at a time, once for each slide, encoder and device.

    Args:
        parent: Owner in the sense of Qt.
    """

    told = Signal()
    """`of` knows more than before."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._rates: dict[_Key, float | None] = {}
        self._look = LatestJob(self._on_answer, self)
        self._going: _Trial | None = None

    def of(self, spec: RunSpec, weights_sha256: str) -> float | None:
        """Regions per second, None where that was not tried (yet).

        Args:
            spec: The run.
            weights_sha256: Of the region encoder.
        """
        return self._rates.get(_key(spec, weights_sha256))

    def ask(self, backend: Backend, spec: RunSpec, weights_sha256: str) -> None:
        """Try it soon, unless that was done."""
        from xt_backend.engine.pace import PaceJob

        key = _key(spec, weights_sha256)
        if key in self._rates:
            return
        self.stop()
        trial = self._going = _Trial(backend, PaceJob(spec), key)
        self._look.ask(trial.result)

    def stop(self) -> None:
        """A run is to begin, or something else is chosen: try no more."""
        going, self._going = self._going, None
        self._look.forget()
        if going is not None:
            going.stop()

    def _on_answer(self, answer: tuple[_Key, float | None] | XTError) -> None:
        self._going = None
        if isinstance(answer, XTError):
            return  # a run says it itself
        key, rate = answer
        self._rates[key] = rate
        self.told.emit()


def _key(spec: RunSpec, weights_sha256: str) -> _Key:
    return str(spec.slide), weights_sha256, spec.device


class _Trial:
    """One trial, waited for in a thread beside the window's."""

    def __init__(self, backend: Backend, job: PaceJob, key: _Key) -> None:
        self._backend = backend
        self._job = job
        self._key = key
        self._stopped = threading.Event()

    def result(self) -> tuple[_Key, float | None]:
        """The rate; of a trial that failed none is known, and it is not tried again."""
        from xt_backend.engine.events import JobFinished

        rate = None
        if not self._stopped.is_set():
            events = self._backend.work(self._job)
            if self._stopped.is_set():
                self._backend.cancel(self._job.run_id)  # the first cancel may have come before it
            for event in events:
                if isinstance(event, JobFinished):
                    rate = event.result
        return self._key, rate

    def stop(self) -> None:
        """Want no answer."""
        self._stopped.set()
        self._backend.cancel(self._job.run_id)
