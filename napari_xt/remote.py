"""Whether the other machine answers, looked up beside the window."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_xt.latest_job import LatestJob
from napari_xt.plain_words import plain
from napari_xt.words import device_words
from xt_backend.errors import BackendDiedError, EngineError, XTError

if TYPE_CHECKING:
    from napari_xt.run_form import RunForm
    from napari_xt.run_session import RunSession
    from napari_xt.run_setup import RunSetup
    from xt_backend.backend import Backend, DeviceChoice
    from xt_backend.engine.elsewhere import Elsewhere

__all__ = ["RemoteStatus"]

CONNECTING = "Connecting …"
STARTING = "A worker is being started there, which may take a minute."
TELL_AFTER_S = 5
"""From then on it is told how long it takes, and why."""


class RemoteStatus(QObject):
    """Says below the address what is there.

    Args:
        form: Where it is entered and said.
        setup: Tells that something was chosen or entered.
        open_panel: Whether the panel is open; a closed one starts no process.
        session: Has the backend that asks, and tells of runs that fail.
        parent: Owner in the sense of Qt.

    Attributes:
        connected: Whether it has answered.
    """

    def __init__(
        self,
        form: RunForm,
        setup: RunSetup,
        open_panel: Callable[[], bool],
        session: RunSession,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._device, self._form, self._session = form.device, form.remote, session
        self._open_panel = open_panel
        self._look = LatestJob(self._on_told, self)
        self._asked: tuple[str, Elsewhere] | None = None
        self._late = False
        self.connected = False
        self._since = 0.0
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self.tell_wait)
        self._form.say("")
        setup.changed.connect(self.look)
        session.failed.connect(self._on_failed)
        session.finished.connect(self._on_finished)

    def look(self) -> None:
        """Ask what is at the address, unless that is known."""
        self._late = self._session.running
        if self._late:
            return
        device = self._device.currentData()
        try:
            elsewhere = self._form.elsewhere()
        except XTError as error:
            self._forget()
            self._form.say(plain(str(error)))
            return
        if elsewhere is None:
            self._forget()
            self._form.say("")
            return
        if self._asked == (device, elsewhere):
            return
        if not self._open_panel():
            return
        self._asked, self.connected = (device, elsewhere), False
        self._form.say(CONNECTING)
        self._since = time.monotonic()
        self._clock.start()
        self._look.ask(partial(_told, self._session.ready_backend(), device, elsewhere))

    def tell_wait(self) -> None:
        """Say that it goes on, and for how long already."""
        seconds = int(time.monotonic() - self._since)
        if seconds >= TELL_AFTER_S:
            self._form.say(f"{CONNECTING} {seconds} s. {STARTING}")

    def _on_failed(self, error: XTError) -> None:
        """What was known of the machine may not hold any more."""
        if self._asked is not None and isinstance(error, EngineError):
            self._forget()
            self._form.say(plain(str(error)))
        self._on_finished()

    def _on_finished(self) -> None:
        if self._late:  # what was entered meanwhile
            self.look()

    def _forget(self) -> None:
        self._asked, self.connected = None, False
        self._clock.stop()
        self._look.forget()

    def _on_told(self, answer: DeviceChoice | XTError) -> None:
        self._clock.stop()
        if isinstance(answer, BackendDiedError):
            self._asked = None  # asked again with the next change
            self._form.say("")
        elif isinstance(answer, XTError):
            self._asked = None  # it may be there the next time
            self._form.say(plain(str(answer)))
        else:
            self.connected = True
            self._form.say(f"Connected. {device_words(answer.name, answer.reason)}")


def _told(backend: Backend, device: str, elsewhere: Elsewhere) -> DeviceChoice | XTError:
    try:
        return backend.device(device, elsewhere=elsewhere)
    except XTError as error:
        return error
