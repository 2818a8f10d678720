"""slides.csv while a batch goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xt_backend.keys import RunFile
from xt_backend.outputs import SlideRow, write_slides_csv

from .folder import RunFolder

__all__ = ["SlideTable"]

INTERVAL_S = 5.0
"""The table is published at most this often, so that its cost does not grow with its square."""


class SlideTable:
    """The rows so far.

    Args:
        folder: Where slides.csv goes; None keeps the rows in memory only.
        classes: The model's classes.
        kinds: Kinds of points of a detection model.

    Attributes:
        rows: In the order of the inputs.
    """

    def __init__(
        self, folder: RunFolder | None, classes: Sequence[str], kinds: Sequence[str] = ()
    ) -> None:
        self.rows: list[SlideRow] = []
        self._folder = folder
        self._classes = classes
        self._kinds = kinds
        self._written = time.monotonic()

    def add(self, row: SlideRow) -> None:
        """Take a row, and publish the table if that was long ago."""
        self.rows.append(row)
        if time.monotonic() - self._written > INTERVAL_S:
            self.write()

    def write(self) -> None:
        """Publish the table."""
        if self._folder is not None:
            path = self._folder.path / RunFile.SLIDES_CSV
            write_slides_csv(path, self.rows, self._classes, self._kinds)
        self._written = time.monotonic()
