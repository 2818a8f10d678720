"""How the panel looks, in napari's light and dark themes alike."""

from __future__ import annotations

from qtpy.QtWidgets import QFrame, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

__all__ = ["BAR", "CANCEL", "RUN", "column", "line", "note_label", "panel_style", "small_button"]

RUN = (
    "QPushButton { font-weight: bold; padding: 7px; }"
    "QPushButton:enabled { background-color: #2f6fde; color: white; }"
    "QPushButton:enabled:hover { background-color: #4b86ea; }"
)
CANCEL = "QPushButton { padding: 7px; }"
BAR = (
    "QProgressBar { border: none; border-radius: 4px; background-color: rgba(128, 128, 128, 60); }"
    "QProgressBar::chunk { border-radius: 4px; background-color: #2f6fde; }"
)

_NOTE = "note"
_NOTE_STRENGTH = 0.72
"""How much of the text's colour notes have, the rest is background."""

_FIXED_STRENGTH = 0.88
"""The same of a number that can't be changed, and of what an empty field stands for, on their
darker ground; napari's are illegible."""


def panel_style(theme: str) -> str:
    """Style sheet of the panel: notes, and what can't be changed, are paler than text but legible.

    Args:
        theme: Name of napari's theme.
    """
    from napari.utils.theme import get_theme

    colors = get_theme(theme)
    text, ground = colors.text.as_rgb_tuple()[:3], colors.background.as_rgb_tuple()[:3]

    def paler(strength: float) -> str:
        mixed = (
            round(strength * ink + (1 - strength) * paper)
            for ink, paper in zip(text, ground, strict=True)
        )
        return "color: rgb({}, {}, {});".format(*mixed)

    return (
        f'QLabel[{_NOTE}="true"] {{ {paler(_NOTE_STRENGTH)} font-size: 11px; }}'
        f"QDoubleSpinBox:disabled {{ {paler(_FIXED_STRENGTH)} }}"
        f"QLineEdit {{ placeholder-text-{paler(_FIXED_STRENGTH)} }}"
    )


def note_label(text: str = "") -> QLabel:
    """Small, paler text that wraps."""
    label = QLabel(text)
    label.setProperty(_NOTE, True)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
    return label


def small_button(text: str) -> QPushButton:
    """A button that is as wide as its text."""
    button = QPushButton(text)
    button.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return button


def line() -> QFrame:
    """A thin line between parts of the panel."""
    frame = QFrame()
    frame.setFrameShape(QFrame.Shape.HLine)
    frame.setFixedHeight(3)
    frame.setStyleSheet("color: rgba(128, 128, 128, 90);")
    return frame


def column(*parts: QWidget) -> QWidget:
    """Parts of the panel below each other."""
    widget = QWidget()
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(8)
    for part in parts:
        layout.addWidget(part)
    return widget
