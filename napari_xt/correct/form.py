"""What the page asks: class, tool, what learns, name. Widgets only."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_xt import style
from napari_xt.choice import Choice
from napari_xt.keyboard import GO, STOP, give_key

__all__ = ["CorrectForm"]

RUB_OUT = -1
"""Stands for no class."""

_RUB_OUT_ID = 1000
"""Of its button: Qt takes negative ones for none."""

_LEARNS = {
    "head": (
        "Quick: how it judges",
        "Seconds. What the model sees stays as it is; how it judges what it sees is learnt anew.",
    ),
    "context": (
        "Thorough: how it looks around, too",
        "Half a minute. The model also learns anew what the surroundings of a region mean.",
    ),
}


class CorrectForm(QWidget):
    """Classes, tools and buttons of the page; knows nothing of napari or training."""

    class_chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.note = style.note_label()
        self.paint = QPushButton("Paint regions")
        self.paint.setToolTip(
            "Click or drag over regions that were judged wrongly. Keys 1, 2, … choose the class, "
            "0 rubs out, Ctrl+Z takes back."
        )
        self.outline = QPushButton("Outline")
        self.outline.setToolTip(
            "Draw around tissue of one class, holding the mouse button. What is painted lies on "
            "top of outlines."
        )
        self.clear = QPushButton("Clear")
        self.clear.setToolTip("Take back all corrections of this slide.")
        self.load = QPushButton("Import …")
        self.load.setToolTip("Add annotations that were drawn in QuPath (GeoJSON).")
        self.save = QPushButton("Export …")
        self.save.setToolTip("Save the corrections for QuPath, or to train with later (GeoJSON).")
        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.learns = Choice("What of the model is trained.")
        for index, (value, (words, tip)) in enumerate(_LEARNS.items()):
            self.learns.addItem(words, value)
            self.learns.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
        self.name = QLineEdit()
        self.name.setToolTip(
            "Name of the new model. The old one stays as it is; both can be chosen on the page Run."
        )
        self.train = QPushButton("Train")
        self.train.setToolTip(
            "Teach the model these corrections. Of everything that was not corrected it is to say "
            "what it said before."
        )
        give_key(self.train, GO)
        self.train.setStyleSheet(style.RUN)
        self.cancel = QPushButton("End training")
        self.cancel.setToolTip("Stop training; nothing is changed.")
        give_key(self.cancel, STOP)
        self.cancel.setStyleSheet(style.CANCEL)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.bar.setStyleSheet(style.BAR)
        self.status = style.note_label()
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._group.idClicked.connect(lambda _: self.class_chosen.emit(self.chosen_class))
        self._classes = QVBoxLayout()
        self._classes.setSpacing(2)
        self._lay_out()

    def _lay_out(self) -> None:
        fields = QFormLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        fields.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        fields.addRow("Trains", self.learns)
        fields.addRow("Save as", self.name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.note)
        layout.addLayout(_row(self.paint, self.outline, self.clear))
        layout.addLayout(self._classes)
        layout.addWidget(self.counts)
        layout.addLayout(_row(self.load, self.save))
        layout.addWidget(style.line())
        layout.addLayout(fields)
        layout.addLayout(_row(self.train, self.cancel))
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addStretch(1)

    def show_classes(self, classes: Sequence[str], colors: Sequence[str]) -> None:
        """List the classes, and what rubs out."""
        for button in self._group.buttons():
            self._group.removeButton(button)
            self._classes.removeWidget(button)
            button.deleteLater()
        for index, (name, color) in enumerate(zip(classes, colors, strict=True)):
            self._add_class(
                index, f"{index + 1}  {name}", color, f"It is {name} (key {index + 1})."
            )
        self._add_class(RUB_OUT, "0  rub out", "", "Take painted corrections back (key 0).")

    def _add_class(self, index: int, text: str, color: str, tip: str) -> None:
        button = QPushButton(text)
        button.setCheckable(True)
        button.setToolTip(tip)
        button.setStyleSheet("QPushButton { text-align: left; padding: 4px 8px; }")
        if color:
            square = QPixmap(14, 14)
            square.fill(QColor(color))
            button.setIcon(QIcon(square))
        self._group.addButton(button, _id(index))
        self._classes.addWidget(button)

    def check_class(self, index: int) -> None:
        """Mark a class as the chosen one."""
        button = self._group.button(_id(index))
        if button is not None:
            button.setChecked(True)

    @property
    def chosen_class(self) -> int:
        """The class to paint and draw with, `RUB_OUT` to rub out."""
        checked = self._group.checkedId()
        return RUB_OUT if checked == _RUB_OUT_ID else max(0, checked)

    def say(self, status: str, done: int = 0, total: int = 1) -> None:
        """Tell how a training goes; 0 in all while that is not known."""
        self.status.setText(status)
        self.bar.setRange(0, total)
        self.bar.setValue(done)


def _id(index: int) -> int:
    return _RUB_OUT_ID if index == RUB_OUT else index


def _row(*parts: QPushButton) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for part in parts:
        row.addWidget(part)
    return row
