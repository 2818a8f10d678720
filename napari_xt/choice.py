"""A drop-down list in a narrow panel."""

from __future__ import annotations

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
)

__all__ = ["Choice"]


class Choice(QComboBox):
    """Shortens a choice that is wider than the list with "…", and tells it whole in its tool tip.

    Args:
        tool_tip: What is chosen here.
    """

    def __init__(self, tool_tip: str) -> None:
        super().__init__()
        self.setToolTip(tool_tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)

    @property
    def shown_text(self) -> str:
        """The choice as far as it can be read."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            option,
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        return self.fontMetrics().elidedText(
            self.currentText(), Qt.TextElideMode.ElideRight, field.width()
        )

    @property
    def told(self) -> str:
        """The tool tip as it is now."""
        whole = self.currentText()
        return self.toolTip() if self.shown_text == whole else f"{whole}\n{self.toolTip()}"

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the choice as it is shortened."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shown_text
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def event(self, event: QEvent) -> bool:
        """Answer the mouse that rests here."""
        if event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.told, self)
            return True
        return bool(super().event(event))
