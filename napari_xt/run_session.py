"""Drives runs of the backend for one widget: events arrive in the main thread, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_xt.beside import Beside, Tell
from xt_backend.errors import EngineError, XTError

if TYPE_CHECKING:
    from xt_backend.backend import Backend, DeviceChoice
    from xt_backend.engine.events import RegionsScored, RunFinished
    from xt_backend.engine.spec import RunSpec
    from xt_backend.store import ScoreMap

__all__ = ["CancelledEarly", "RunSession"]

CANCEL_PATIENCE_S = 0.7
"""A cancelled run that has not answered by then is shown as it stands and left to end alone."""

CLOSE_PATIENCE_S = 3.0


@dataclass(frozen=True)
class CancelledEarly:
    """A run was cancelled before there was a map of it."""

    run_id: str
    cancelled: bool = True


@dataclass
class _Run:
    run_id: str
    cancelled_at: float | None = None
    latest: ScoreMap | None = None
    grows: bool = False


class RunSession(QObject):
    """One run at a time, none of it in the window's thread.

    Of several partial maps that have piled up only the newest is handed on. `close` ends
    everything at once; a later `start` opens a new backend.

    Args:
        make_backend: Makes the backend with the first run.
        parent: Owner in the sense of Qt.
    """

    planned = Signal(object)
    progressed = Signal(object)
    decoded = Signal(object)
    finished = Signal(object)
    failed = Signal(object)

    def __init__(self, make_backend: Callable[[], Backend], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._make_backend = make_backend
        self._backend: Backend | None = None
        self._run: _Run | None = None
        self._left_alone: threading.Thread | None = None
        self._beside = Beside(self._poll, self, "xt-run")

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._run is not None

    @property
    def cancelling(self) -> bool:
        """Whether the run was cancelled and has not answered yet."""
        return self._run is not None and self._run.cancelled_at is not None

    def device_question(self, asked: str) -> Callable[[], DeviceChoice]:
        """What tells, called in another thread, which device a run would use.

        It starts the backend's process, so that the first run need not wait for that.

        Args:
            asked: ``auto`` or the name of a device.
        """
        backend = self.ready_backend()
        return lambda: backend.device(asked)

    def ready_backend(self) -> Backend:
        """The backend of the runs, opened if there is none."""
        if self._backend is None:
            self._backend = self._make_backend()
        return self._backend

    def start(self, spec: RunSpec, first: Callable[[], None] = lambda: None) -> None:
        """Start a run; the session must be idle.

        Args:
            spec: The run.
            first: Called before it, in the run's thread; what it raises is the run's failure.

        Raises:
            EngineError: A run is still going on.
        """
        if self._run is not None:
            raise EngineError("A run is going on already", "Cancel it first")
        if self._left_alone is not None and self._left_alone.is_alive():
            # An earlier cancelled run still hangs in its last batch: this one shall not queue.
            self._end_backend(wait=False)
        run, backend = _Run(spec.run_id), self.ready_backend()
        self._run = run
        self._beside.start(partial(_pump, backend, spec, run, first))

    def cancel(self) -> None:
        """Stop the run after the batch in hand; `finished` follows within a second."""
        run, backend = self._run, self._backend
        if run is None or backend is None or run.cancelled_at is not None:
            return
        run.cancelled_at = time.monotonic()
        backend.cancel(run.run_id)

    def close(self) -> None:
        """End the run and the backend process now; nothing more is told."""
        self._run = None
        self._beside.leave()
        self._end_backend(wait=True)

    def _end_backend(self, *, wait: bool) -> None:
        backend, self._backend = self._backend, None
        self._left_alone = None
        if backend is None:
            return
        closer = threading.Thread(target=backend.close, name="xt-close", daemon=True)
        closer.start()
        if wait:
            closer.join(CLOSE_PATIENCE_S)

    def _poll(self) -> None:
        run = self._run
        if run is None:
            return
        newest = self._take(run)
        if self._run is not run:
            return
        if newest is not None:
            self.progressed.emit(newest)
        if run.cancelled_at is not None and self._run is run:
            self._answer_cancel(run, run.cancelled_at)

    def _take(self, run: _Run) -> RegionsScored | None:
        """Hand on what has come; of partial maps return the first of a run, later the newest."""
        from xt_backend.engine.events import (
            RegionsDecoded,
            RegionsScored,
            RunFailed,
            RunFinished,
            RunPlanned,
        )

        newest: RegionsScored | None = None
        for event in self._beside.told():
            if isinstance(event, RegionsScored):
                newest = event
                run.latest = event.score_map
                if not run.grows:
                    run.grows = True
                    break  # drawn before anything else, so that the overlay is seen to grow
            elif isinstance(event, RegionsDecoded):
                self.decoded.emit(event)  # each has pixels of its own
            elif isinstance(event, RunPlanned):
                run.latest = event.score_map
                self.planned.emit(event)
                break
            elif isinstance(event, RunFinished):
                if newest is not None:  # a quick run may end between two looks
                    self.progressed.emit(newest)
                self._end(run)
                self.finished.emit(event)
            elif isinstance(event, RunFailed | XTError):
                self._end(run)
                if run.cancelled_at is not None:
                    self.finished.emit(_cancelled(run))
                else:
                    self.failed.emit(event if isinstance(event, XTError) else event.error)
        return newest

    def _answer_cancel(self, run: _Run, cancelled_at: float) -> None:
        if time.monotonic() - cancelled_at < CANCEL_PATIENCE_S:
            return
        self._left_alone = self._beside.worker
        self._end(run)
        self.finished.emit(_cancelled(run))

    def _end(self, run: _Run) -> None:
        if self._run is run:
            self._run = None
            self._beside.leave()


def _cancelled(run: _Run) -> RunFinished | CancelledEarly:
    """The end of a run that has not told it itself."""
    from xt_backend.engine.events import RunFinished

    if run.latest is None:
        return CancelledEarly(run.run_id)
    return RunFinished(run.run_id, run.latest, cancelled=True)


def _pump(
    backend: Backend, spec: RunSpec, run: _Run, first: Callable[[], None], tell: Tell
) -> None:
    first()
    events = backend.submit(spec)
    if run.cancelled_at is not None:
        backend.cancel(spec.run_id)  # the first cancel may have come before the run
    for event in events:
        tell(event)
