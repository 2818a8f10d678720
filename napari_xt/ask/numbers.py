"""The numbers of the region that was clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_xt.ask.words import doubt_words, headline, place_words
from napari_xt.style import note_label
from xt_backend.engine.questions import entropy

if TYPE_CHECKING:
    from xt_backend.engine.questions import SpreadMap
    from xt_backend.store import ScoreMap

__all__ = ["NOTHING", "SLIDE_ASKED", "Numbers"]

NOTHING = "Click a region of the result to see its numbers and to ask about it."
SLIDE_ASKED = (
    "No region is chosen: the question is about the slide as a whole. Click a region to ask about "
    "that one."
)
_COLUMNS = (
    ("with context", "Probability from the region together with its surroundings."),
    ("alone", "Probability from the region's own pixels alone."),
    ("change", "What the surroundings changed."),
)


class Numbers(QWidget):
    """Class, place, probabilities with and without context, and how sure the model is."""

    def __init__(self) -> None:
        super().__init__()
        self.title = QLabel()
        self.title.setStyleSheet("font-weight: bold;")
        self.place = note_label()
        self.doubt = note_label()
        self.doubt.setToolTip(
            "0 %: the model is certain of one class; 100 %: all classes seem alike to it. "
            "“How steady” below lays the slide on the glass in 8 ways, turned and mirrored."
        )
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.title, self.place):
            layout.addWidget(part)
        layout.addLayout(self._grid)
        layout.addWidget(self.doubt)
        self.show_nothing()

    def show_nothing(self, why: str = NOTHING) -> None:
        """Say that no region is chosen."""
        self._clear()
        self.title.hide()
        self.doubt.hide()
        self.place.setText(why)

    def show_region(self, score_map: ScoreMap, row: int, spread: SpreadMap | None) -> None:
        """Show a region.

        Args:
            score_map: What is shown of the slide.
            row: Its row.
            spread: How steady the prediction is, where that was asked.
        """
        self._clear()
        self.title.setText(headline(score_map, row))
        self.place.setText(place_words(score_map, row))
        doubt = doubt_words(float(entropy(score_map)[row]), spread, row)
        self.doubt.setText(doubt)
        self.title.show()
        self.doubt.setVisible(bool(doubt))
        joint, alone = score_map.probabilities[row], score_map.region_only_probabilities[row]
        if np.isnan(joint).any():
            return
        for column, (words, tip) in enumerate(_COLUMNS, start=1):
            heading = note_label()
            heading.setWordWrap(False)
            heading.setText(words)
            heading.setToolTip(tip)
            self._put(heading, 0, column)
        for index, name in enumerate(score_map.classes):
            label = QLabel(name)
            label.setMinimumWidth(20)
            label.setToolTip(name)
            self._grid.addWidget(label, index + 1, 0)
            known = not np.isnan(alone[index])
            texts = (
                f"{joint[index]:.0%}",
                f"{alone[index]:.0%}" if known else "–",
                _change(float(joint[index] - alone[index])) if known else "",
            )
            for column, text in enumerate(texts, start=1):
                self._put(QLabel(text), index + 1, column)

    @property
    def cells(self) -> list[list[str]]:
        """The table as text, row by row, without its head."""
        rows = range(1, self._grid.rowCount())
        items = [[self._grid.itemAtPosition(row, column) for column in range(4)] for row in rows]
        return [[item.widget().text() for item in row] for row in items if all(row)]

    def _put(self, label: QLabel, row: int, column: int) -> None:
        label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._grid.addWidget(label, row, column)

    def _clear(self) -> None:
        while self._grid.count():
            widget = self._grid.takeAt(0).widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()


def _change(value: float) -> str:
    """A difference of probabilities with its sign; nothing has none."""
    points = round(100 * value)
    return f"{points:+d}%" if points else "0%"
