"""Keys of the panel: each does what a button in view does, and its tool tip tells it.

napari keeps single letters and most of Ctrl for itself; none of these is among its keys.
"""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QAbstractButton, QShortcut, QWidget

__all__ = [
    "BACK",
    "CONTEXT",
    "GO",
    "LOOK",
    "PAGES",
    "PAINT_OUT",
    "STOP",
    "give_key",
    "when_pressed",
    "with_key",
]

GO = "Ctrl+Return"
"""What the page that is shown is there for: run, ask what if, train, save."""

STOP = "Ctrl+."
"""Stops what the page that is shown has begun."""

LOOK = "Alt+Q"
PAINT_OUT = "Alt+O"
BACK = "Alt+B"
CONTEXT = "Alt+X"
PAGES = ("Alt+1", "Alt+2", "Alt+3", "Alt+4")


def with_key(tip: str, key: str) -> str:
    """A tool tip that tells the key, as this system writes it."""
    return f"{tip} ({QKeySequence(key).toString(QKeySequence.SequenceFormat.NativeText)})"


def give_key(button: QAbstractButton, key: str) -> None:
    """Let a key click a button wherever the mouse is, while the button can be seen and used.

    Several buttons may have the same key if only one of them is ever seen.
    """
    button.setToolTip(with_key(button.toolTip(), key))
    when_pressed(button, key, button.click)


def when_pressed(parent: QWidget, key: str, act: Callable[[], None]) -> None:
    """Act on a key while a widget can be seen and used."""
    shortcut = QShortcut(QKeySequence(key), parent)
    shortcut.activated.connect(act)
