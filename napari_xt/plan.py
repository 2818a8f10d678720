"""The line that says what a run would do, looked up beside the window while one chooses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QLabel

from napari_xt.latest_job import LatestJob
from napari_xt.preview import Preview, preview
from napari_xt.words import device_words, in_units
from xt_backend.errors import BackendDiedError, XTError

if TYPE_CHECKING:
    from xt_backend.backend import DeviceChoice
    from xt_backend.engine.spec import RunSpec
    from xt_backend.model.card import ModelCard

__all__ = ["Plan"]


class Plan(QObject):
    """Says which regions a run would score, and on which device.

    Args:
        label: Where it is said.
        device_question: Takes the chosen device and gives what tells, in another thread, which
            one that is; None while no process may be started.
        parent: Owner in the sense of Qt.
    """

    def __init__(
        self,
        label: QLabel,
        device_question: Callable[[str], Callable[[], DeviceChoice] | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._label = label
        self._device_question = device_question
        self._regions = ""
        self._device = ""
        self._devices: dict[str, str] = {}
        self._regions_look = LatestJob(self._on_regions, self)
        self._device_look = LatestJob(self._on_device, self)

    def look(
        self, spec: RunSpec, card: ModelCard, first: Callable[[], None] = lambda: None
    ) -> None:
        """Find out what this run would do, and say it piece by piece.

        Args:
            spec: The run.
            card: Of its model.
            first: Called before, in another thread.
        """
        # Of another machine the field of its address tells.
        self._device = spec.device if spec.elsewhere is None else ""
        self._regions = "Looking for tissue …"
        self._show()
        self._regions_look.ask(partial(_looked_ahead, spec, card, first))
        if self._device and spec.device not in self._devices:
            question = self._device_question(spec.device)
            if question is not None:
                self._device_look.ask(partial(_told, spec.device, question))

    def say(self, words: str) -> None:
        """Say this; what is still being looked up goes unheard."""
        self.forget()
        self._label.setText(words)

    def forget(self) -> None:
        """Let what is still being looked up go unheard."""
        self._regions_look.forget()
        self._device_look.forget()

    def _on_regions(self, result: Preview | XTError) -> None:
        self._regions = result.in_words() if isinstance(result, Preview) else in_units(str(result))
        self._show()

    def _on_device(self, result: tuple[str, DeviceChoice | XTError] | XTError) -> None:
        if isinstance(result, XTError):
            return  # nobody foresaw it; a run says it itself
        asked, answer = result
        if isinstance(answer, BackendDiedError):
            return  # asked again with the next choice; a run says it itself
        if isinstance(answer, XTError):
            words = str(answer)
        else:
            words = device_words(answer.name, answer.reason)
        self._devices[asked] = words
        self._show()

    def _show(self) -> None:
        self._label.setText(f"{self._regions} {self._devices.get(self._device, '')}".strip())


def _looked_ahead(spec: RunSpec, card: ModelCard, first: Callable[[], None]) -> Preview:
    first()
    return preview(spec, card)


def _told(asked: str, question: Callable[[], DeviceChoice]) -> tuple[str, DeviceChoice | XTError]:
    """What is answered, with what was asked: another device may be chosen by then."""
    try:
        return asked, question()
    except XTError as error:
        return asked, error
