"""The lower half of the panel: what was found, and what lies under the cursor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_xt.keyboard import CONTEXT, when_pressed, with_key
from napari_xt.style import note_label

if TYPE_CHECKING:
    from napari_xt.hover import Reading
    from xt_backend.store import ScoreMap

__all__ = ["Results"]

_CONTEXT_TIP = (
    "On: every region is judged together with its surroundings. Off: from its own pixels "
    "alone. Switch to see what the surroundings changed."
)
_BAR_STRENGTH = 95
"""Of 255, so that the name stands out in both themes; the square beside it has the whole colour."""

_NO_CONTEXT_TIP = "Every region was judged from its own pixels alone."


class Results(QWidget):
    """Legend with the classes' shares, the context switch, and the region under the cursor."""

    context_switched = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.context = QCheckBox("Show the prediction with context")
        self.context.setChecked(True)
        self.offer_context(True)
        self.context.toggled.connect(self.context_switched.emit)
        when_pressed(self.context, CONTEXT, self.context.click)
        self.headline = QLabel()
        self.headline.setWordWrap(True)
        self._legend = QGridLayout()
        self._legend.setContentsMargins(0, 0, 0, 0)
        self._legend.setHorizontalSpacing(6)
        self._legend.setVerticalSpacing(3)
        self._legend.setColumnStretch(1, 1)
        self._bars: list[QProgressBar] = []
        self._shares: list[QLabel] = []
        self._probabilities: list[QLabel] = []
        self.cursor_note = note_label()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.headline)
        layout.addLayout(self._legend)
        layout.addWidget(self.cursor_note)
        layout.addWidget(self.context)
        self.hide()

    def say(self, *sentences: str) -> None:
        """Say something of the whole result; nothing takes no room."""
        words = " ".join(sentence for sentence in sentences if sentence)
        self.headline.setText(words)
        self.headline.setVisible(bool(words))

    def begin(self, score_map: ScoreMap) -> None:
        """Lay out the legend of a new run."""
        while self._legend.count():
            widget = self._legend.takeAt(0).widget()
            if widget is not None:
                widget.hide()  # it goes later, and would shine through until then
                widget.deleteLater()
        self._bars, self._shares, self._probabilities = [], [], []
        for column, (words, tip) in enumerate(
            (
                ("share", "Part of the tissue, scored or screened out, that is this class."),
                ("here", "Probability of this class in the region under the cursor."),
            )
        ):
            heading = note_label()
            heading.setText(words)
            heading.setToolTip(tip)
            heading.setWordWrap(False)
            heading.setAlignment(Qt.AlignmentFlag.AlignRight)
            self._legend.addWidget(heading, 0, 2 + column)
        for row, (name, color) in enumerate(
            zip(score_map.classes, score_map.colors, strict=True), start=1
        ):
            self._add_class(row, name, color)
        self.show_reading(None, context=True)
        self.show()

    def _add_class(self, row: int, name: str, color: str) -> None:
        swatch = QLabel()
        swatch.setFixedSize(12, 12)
        swatch.setStyleSheet(f"background-color: {color}; border-radius: 3px;")
        bar = QProgressBar()
        bar.setRange(0, 1000)
        bar.setTextVisible(True)
        bar.setFormat(name)
        bar.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        bar.setFixedHeight(18)
        bar.setStyleSheet(
            "QProgressBar { border: none; border-radius: 3px; padding-left: 4px;"
            " background-color: rgba(128, 128, 128, 45); }"
            f"QProgressBar::chunk {{ background-color: {_faded(color)}; border-radius: 3px; }}"
        )
        share, probability = QLabel(""), QLabel("")
        for label in (share, probability):
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            label.setMinimumWidth(40)
        for column, widget in enumerate((swatch, bar, share, probability)):
            self._legend.addWidget(widget, row, column)
        self._bars.append(bar)
        self._shares.append(share)
        self._probabilities.append(probability)

    def show_shares(self, shares: Iterable[float]) -> None:
        """Show the share of each class, 0 to 1; NaN while nothing is scored."""
        self.setUpdatesEnabled(False)  # else each bar has the whole window painted at once
        for bar, label, share in zip(self._bars, self._shares, shares, strict=True):
            known = not np.isnan(share)
            bar.setValue(round(1000 * share) if known else 0)
            label.setText(f"{share:.1%}" if known else "–")
        self.setUpdatesEnabled(True)

    def offer_context(self, there_is: bool) -> None:
        """Let the switch be used only where a prediction with context is there; it stays set."""
        self.context.setEnabled(there_is)
        tip = _CONTEXT_TIP if there_is else _NO_CONTEXT_TIP
        self.context.setToolTip(with_key(tip, CONTEXT))

    def show_reading(self, reading: Reading | None, *, context: bool) -> None:
        """Show the region under the cursor, or nothing beside the tissue."""
        shown = None
        if reading is not None:
            shown = reading.probabilities if context else reading.region_only
        for index, label in enumerate(self._probabilities):
            known = shown is not None and not np.isnan(shown[index])
            label.setText(f"{shown[index]:.0%}" if known else "")
        if reading is None:
            self.cursor_note.setText("Point at a region to see its probabilities.")
        else:
            self.cursor_note.setText(f"Here: {reading.in_words(context=context)}")


def _faded(color: str) -> str:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {_BAR_STRENGTH})"
