"""A page in a panel that may be lower than the page."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QScrollArea,
    QScrollBar,
    QWidget,
)

__all__ = ["Scrolled"]

LEAST_PX = 140
"""A page is squeezed no further: it scrolls."""


class Scrolled(QScrollArea):
    """As high as its page asks for; where there is less room, the page scrolls in it.

    Args:
        page: What is scrolled.
    """

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setStyleSheet("QScrollArea { padding: 0px; }")  # napari's: the page needs all of it
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidgetResizable(True)
        self.setWidget(page)
        self._wheel = _Wheel(self)
        for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
            for field in page.findChildren(kind):
                self._wheel.leave(field)

    def sizeHint(self) -> QSize:
        """As wide and high as the page wants to be; lines are broken at the width there is."""
        page = self.widget()
        if page is None:
            return super().sizeHint()
        wanted = page.sizeHint()
        if page.hasHeightForWidth():
            wanted.setHeight(page.heightForWidth(self.width()))
        return wanted

    def minimumSizeHint(self) -> QSize:
        """As wide as the page has to be, and as high as one can scroll in."""
        page = self.widget()
        if page is None:
            return super().minimumSizeHint()
        return QSize(page.minimumSizeHint().width(), min(LEAST_PX, self.sizeHint().height()))

    def event(self, event: QEvent) -> bool:
        """Ask for another height when the page does."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().event(event))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Ask for another height where lines are broken at another width."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def showEvent(self, event: QShowEvent) -> None:
        """Ask for the height of what has changed out of sight."""
        super().showEvent(event)
        self.updateGeometry()


class _Wheel(QObject):
    """Scrolls the page over fields that nobody has clicked, and leaves what is chosen there."""

    def leave(self, field: QWidget) -> None:
        """Let no turn of the wheel change this field by chance."""
        if isinstance(field, QScrollBar):
            return
        field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # the wheel would give it the focus
        field.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Hand the wheel on to the page."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))
