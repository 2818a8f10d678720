"""The line that says what a run would do, looked up beside the window while one chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QLabel

from napari_xt.latest_job import LatestJob
from napari_xt.pace import Pace
from napari_xt.plain_words import plain
from napari_xt.preview import Preview, preview
from napari_xt.words import device_words
from xt_backend.errors import BackendDiedError, XTError

if TYPE_CHECKING:
    from xt_backend.backend import Backend, DeviceChoice
    from xt_backend.engine.spec import RunSpec
    from xt_backend.model.card import ModelCard

__all__ = ["Plan"]


class Plan(QObject):
    """Says which regions a run would score, and on which device.

    Args:
        label: Where it is said.
        backend: Gives the backend, opened if there is none; None while no process may be started.
        parent: Owner in the sense of Qt.
    """

    def __init__(
        self,
        label: QLabel,
        backend: Callable[[], Backend | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._label = label
        self._backend = backend
        self._regions = ""
        self._preview: Preview | None = None
        self._asked: tuple[RunSpec, ModelCard] | None = None
        self._device = ""
        self._devices: dict[str, str] = {}
        self._regions_look = LatestJob(self._on_regions, self)
        self._device_look = LatestJob(self._on_device, self)
        self._pace = Pace(self)
        self._pace.told.connect(self._on_pace)

    def look(
        self, spec: RunSpec, card: ModelCard, first: Callable[[], None] = lambda: None
    ) -> None:
        """Find out what this run would do, and say it piece by piece.

        Args:
            spec: The run.
            card: Of its model.
            first: Called before, in another thread.
        """
        self._pace.stop()
        self._preview, self._asked = None, (spec, card)
        # Of another machine the field of its address tells.
        self._device = spec.device if spec.elsewhere is None else ""
        self._regions = "Looking for tissue …"
        self._show()
        self._regions_look.ask(partial(_looked_ahead, spec, card, first))
        if self._device and spec.device not in self._devices:
            backend = self._backend()
            if backend is not None:
                self._device_look.ask(partial(_told, backend, spec.device))

    def say(self, words: str) -> None:
        """Say this; what is still being looked up goes unheard."""
        self.forget()
        self._label.setText(words)

    def forget(self) -> None:
        """Let what is still being looked up go unheard."""
        self._pace.stop()
        self._preview = self._asked = None
        self._regions_look.forget()
        self._device_look.forget()

    def _on_regions(self, result: Preview | XTError) -> None:
        if isinstance(result, XTError):
            self._regions = plain(str(result))
        else:
            self._preview = result
            self._ask_pace()
            self._on_pace()
        self._show()

    def _ask_pace(self) -> None:
        """Try how quick the run would be, where no earlier one told."""
        if self._asked is None or self._preview is None or not self._preview.asks_for_pace:
            return
        spec, card = self._asked
        if spec.elsewhere is not None:
            return  # it would keep another machine busy
        if self._pace.of(spec, card.region_encoder.sha256) is None:
            backend = self._backend()
            if backend is not None:
                self._pace.ask(backend, spec, card.region_encoder.sha256)

    def _on_pace(self) -> None:
        if self._asked is None or self._preview is None:
            return
        spec, card = self._asked
        shown = self._preview
        if shown.asks_for_pace:
            rate = self._pace.of(spec, card.region_encoder.sha256)
            shown = replace(shown, regions_per_s=rate, tried=True)
        self._regions = shown.in_words()
        self._show()

    def _on_device(self, result: tuple[str, DeviceChoice | XTError] | XTError) -> None:
        if isinstance(result, XTError):
            return  # nobody foresaw it; a run says it itself
        asked, answer = result
        if isinstance(answer, BackendDiedError):
            return  # asked again with the next choice; a run says it itself
        if isinstance(answer, XTError):
            words = plain(str(answer))
        else:
            words = device_words(answer.name, answer.reason)
        self._devices[asked] = words
        self._show()

    def _show(self) -> None:
        self._label.setText(f"{self._regions} {self._devices.get(self._device, '')}".strip())


def _looked_ahead(spec: RunSpec, card: ModelCard, first: Callable[[], None]) -> Preview:
    first()
    return preview(spec, card)


def _told(backend: Backend, asked: str) -> tuple[str, DeviceChoice | XTError]:
    """What is answered, with what was asked: another device may be chosen by then."""
    try:
        return asked, backend.device(asked)
    except XTError as error:
        return asked, error
