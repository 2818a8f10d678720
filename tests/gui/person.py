"""Somebody at the window, who has a mouse, a keyboard and eyes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QComboBox, QFileDialog, QLineEdit, QPushButton, QWidget

from napari_xt.slide_layers import panel_of

__all__ = ["Person"]

PATIENCE_MS = 400_000
A_MOMENT_MS = 60
"""Between two movements of a hand: what lies under the mouse is found out meanwhile."""


class Person:
    """Clicks, types, drops and looks.

    Args:
        qtbot: Of pytest-qt.
        viewer: Its window is brought up.
        monkeypatch: Answers the system's own dialogs, which no test can click.
    """

    def __init__(self, qtbot: Any, viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._qtbot, self.viewer, self._monkeypatch = qtbot, viewer, monkeypatch
        viewer.window.show()
        viewer.window.resize(1000, 800)
        viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
        qtbot.wait(200)

    @property
    def panel(self) -> Any:
        """The panel `Run xT`."""
        return panel_of(self.viewer)

    @property
    def _canvas(self) -> Any:
        return self.viewer.window._qt_viewer.canvas.native

    # ------------------------------------------------------------------ mouse and keyboard

    def turn_to(self, title: str) -> Any:
        """Click a tab; the page behind it."""
        tabs = self.panel.pages.tabs
        titles = [tabs.tabText(index) for index in range(tabs.count())]
        middle = tabs.tabRect(titles.index(title)).center()
        self._qtbot.mouseClick(tabs, Qt.MouseButton.LeftButton, pos=middle)
        self._qtbot.wait(A_MOMENT_MS)
        assert tabs.tabText(tabs.currentIndex()) == title
        return self.panel.pages.current

    def press(self, text: str) -> None:
        """Click the one button of this text that can be seen and used."""
        found = [item for item in self.panel.findChildren(QPushButton) if item.text() == text]
        (button,) = [item for item in found if item.isVisible()]
        assert button.isEnabled(), text
        self._qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def pick(self, box: QComboBox, text: str) -> None:
        """Go down a list to an entry, with the arrow keys."""
        assert box.isVisible()
        assert box.isEnabled()
        box.setFocus()
        self._qtbot.keyClick(box, Qt.Key.Key_Home)
        for _ in range(box.count()):
            if box.currentText() == text:
                return
            self._qtbot.keyClick(box, Qt.Key.Key_Down)
        raise AssertionError(f"{text} is not in the list")

    def type_into(self, field: QLineEdit, text: str) -> None:
        """Type into a field that can be seen."""
        assert field.isVisible()
        self._qtbot.mouseClick(field, Qt.MouseButton.LeftButton)
        self._qtbot.keyClicks(field, text)

    def key(self, key: Qt.Key, widget: QWidget | None = None) -> None:
        """Press a key over the slide, or somewhere else."""
        target = self._canvas if widget is None else widget
        target.setFocus()
        self._qtbot.keyClick(target, key)

    def click_slide(self, right_px: int = 0, down_px: int = 0) -> None:
        """Click on the picture, so many screen px from its middle."""
        canvas = self._canvas
        place = canvas.rect().center() + QPoint(right_px, down_px)
        self._qtbot.mouseMove(canvas, place)
        self._qtbot.wait(A_MOMENT_MS)
        self._qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place)
        self._qtbot.wait(A_MOMENT_MS)

    def click_picture(self, gallery: Any, index: int = 0) -> None:
        """Click a picture in a list of them."""
        self.see(lambda: gallery.isVisible() and gallery.count() > index)
        place = gallery.visualItemRect(gallery.item(index)).center()
        self._qtbot.mouseClick(gallery.viewport(), Qt.MouseButton.LeftButton, pos=place)
        self._qtbot.wait(A_MOMENT_MS)

    def drop(self, path: Path) -> None:
        """Drop a file or a folder on the picture."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        middle, copy = self._canvas.rect().center(), Qt.DropAction.CopyAction
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        for event in (
            QDragEnterEvent(middle, copy, data, left, none),
            QDropEvent(QPointF(middle), copy, data, left, none),
        ):
            QApplication.sendEvent(self.viewer.window._qt_viewer, event)

    def answer_dialog(self, name: str, path: Path) -> None:
        """What the next dialog of the system is answered with."""
        self._monkeypatch.setattr(QFileDialog, name, lambda *_: (str(path), ""))

    # ------------------------------------------------------------------ eyes

    def see(self, sight: Callable[[], bool]) -> None:
        """Wait until something is to be seen."""
        self._qtbot.waitUntil(sight, timeout=PATIENCE_MS)

    def see_run_end(self) -> None:
        """Wait for the end of a run, and for all of its layers."""
        panel = self.panel
        self.see(lambda: not panel.session.running and panel.chosen.complete)
        self.see(lambda: panel.overlay.complete)
