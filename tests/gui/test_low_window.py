"""Windows that are lower than the panel: it scrolls, and nothing is squeezed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QScrollBar,
    QSlider,
    QWidget,
)

from napari_xt.scrolled import Scrolled

from .conftest import PATIENCE_MS
from .test_run import open_slide_layer, run_to_end

LOW_PX = 626
HIGH_PX = 1100
_KINDS = (QLabel, QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QSlider)


@pytest.fixture
def shown(qtbot: Any, panel: Any, square_slide: Path) -> Any:
    """The panel with a result, in a window that can be seen."""
    open_slide_layer(panel, square_slide)
    run_to_end(qtbot, panel)
    panel._viewer.window._qt_window.show()
    panel.form.remote.fold.setChecked(True)
    panel.form.remote.say("Connecting …")
    return panel


@pytest.fixture
def resized(qtbot: Any, shown: Any) -> Callable[[int], Scrolled]:
    """Makes the window so high; what scrolls the page that is shown."""

    def resize(height_px: int) -> Scrolled:
        window = shown._viewer.window
        window.resize(1000, height_px)
        qtbot.waitUntil(lambda: window.geometry()[3] == height_px, timeout=PATIENCE_MS)
        return holder(shown)

    return resize


def holder(panel: Any) -> Scrolled:
    found = panel.pages.current.parent().parent()
    assert isinstance(found, Scrolled)
    return found


def parts_of(page: QWidget) -> list[Any]:
    """Everything of a page that is to be read or used."""
    found = [part for kind in _KINDS for part in page.findChildren(kind) if part.isVisible()]
    inner = (QAbstractSpinBox, QComboBox, QScrollBar)
    return [part for part in found if not isinstance(part.parent(), inner)]


def name_of(part: Any) -> str:
    text = getattr(part, "text", str)()
    return f"{type(part).__name__} {text!r}"


def squeezed(page: QWidget) -> list[str]:
    """What is lower than it has to be to be read."""

    def needs(part: QWidget) -> int:
        if part.hasHeightForWidth():
            return part.heightForWidth(part.width())
        return part.minimumSizeHint().height()

    return [name_of(part) for part in parts_of(page) if part.height() < needs(part)]


def test_all_of_every_page_can_be_read_in_a_low_window(
    qtbot: Any, shown: Any, resized: Callable[[int], Scrolled]
) -> None:
    resized(LOW_PX)
    for title, page in shown.pages.pages.items():
        shown.pages.turn_to(page)
        area = holder(shown)
        with contextlib.suppress(qtbot.TimeoutError):  # told in detail below
            qtbot.waitUntil(lambda page=page: not squeezed(page), timeout=PATIENCE_MS // 10)
        assert squeezed(page) == [], title
        assert parts_of(page), title
        assert page.width() <= area.viewport().width(), title
        for part in parts_of(page):
            area.ensureWidgetVisible(part, 0, 0)
            seen = part.visibleRegion().boundingRect()
            assert seen == part.rect(), (title, name_of(part))
    # Beside the scroll bar, too, the choices of the page Ask can be told apart.
    form = shown.pages.pages["Ask"].form
    for choice in (form.shows, form.keep):
        names = [choice.itemText(index) for index in range(choice.count())]
        wide = max(choice.fontMetrics().horizontalAdvance(name) for name in names)
        assert choice.width() > wide, names
    shown.pages.tabs.setCurrentIndex(0)
    assert holder(shown).verticalScrollBar().maximum() > 0, "what was tested is a low window"
    assert shown.visibleRegion().boundingRect() == shown.rect()


def test_nothing_scrolls_where_there_is_room(
    qtbot: Any, shown: Any, resized: Callable[[int], Scrolled]
) -> None:
    area = resized(HIGH_PX)
    bar = area.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() == 0, timeout=PATIENCE_MS)
    # As high as the page, and the result right below it.
    assert area.height() == shown.pages.current.height()
    below = area.mapTo(shown, QPoint(0, area.height())).y()
    assert shown.results.y() - below < 20


def turn_wheel(widget: QWidget) -> bool:
    """Towards oneself, with the mouse over a widget; whether it did something with it.

    What the wheel of a mouse does and a widget leaves, Qt hands on to what lies behind it.
    """
    middle = widget.rect().center()
    event = QWheelEvent(
        QPointF(middle),
        QPointF(widget.mapToGlobal(middle)),
        QPoint(),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)
    return bool(event.isAccepted())


def test_the_wheel_scrolls_the_page_and_chooses_nothing(
    qtbot: Any, shown: Any, resized: Callable[[int], Scrolled]
) -> None:
    area = resized(LOW_PX)
    bar = area.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0, timeout=PATIENCE_MS)
    form = shown.form
    form.model.setCurrentIndex(0)
    form.device.setCurrentIndex(0)
    before = form.model.currentIndex(), form.device.currentIndex(), form.mpp.value()
    for field in (form.model, form.device, form.mpp):
        assert not turn_wheel(field)
    assert turn_wheel(area.viewport())
    assert bar.value() > 0
    assert before == (form.model.currentIndex(), form.device.currentIndex(), form.mpp.value())
    # Whoever has clicked a list may turn the wheel on it.
    window = shown._viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=PATIENCE_MS)
    form.device.setFocus()
    qtbot.waitUntil(form.device.hasFocus, timeout=PATIENCE_MS)
    assert turn_wheel(form.device)
    assert form.device.currentIndex() == 1
