"""slides.csv while a batch goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xt_backend.keys import RunFile, SlideStatus, Stopped
from xt_backend.outputs import SlideRow, write_slides_csv

from .folder import RunFolder
from .plan import Task
from .rows import stopped_row

__all__ = ["SlideTable"]

INTERVAL_S = 5.0
"""The table is published at most this often, so that its cost does not grow with its square."""


class SlideTable:
    """The rows so far: one per task from the start, whatever ends the batch.

    A slide that nothing is known of has one that says that it was not started.

    Args:
        folder: Where slides.csv goes; None keeps the rows in memory only.
        tasks: All of the batch, in the order of the inputs.
        classes: The model's classes.
        kinds: Kinds of points of a detection model.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        tasks: Sequence[Task],
        classes: Sequence[str],
        kinds: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._classes = classes
        self._kinds = kinds
        self._written = time.monotonic()
        self._rows = {task.slide_id: stopped_row(task, Stopped.NOT_STARTED) for task in tasks}

    @property
    def rows(self) -> tuple[SlideRow, ...]:
        """In the order of the inputs."""
        return tuple(self._rows.values())

    @property
    def due(self) -> bool:
        """It was published long ago."""
        return time.monotonic() - self._written > INTERVAL_S

    def is_done(self, slide_id: str) -> bool:
        """The slide's row is of a result."""
        return self._rows[slide_id].status != SlideStatus.FAILED

    def lacks(self, slide_id: str) -> bool:
        """There is a result of the slide, but no row of it."""
        return (
            self._folder is not None and not self.is_done(slide_id) and self._folder.holds(slide_id)
        )

    def add(self, row: SlideRow) -> None:
        """Take the row of a slide."""
        self._rows[row.id] = row

    def write(self) -> None:
        """Publish the table."""
        if self._folder is not None:
            path = self._folder.path / RunFile.SLIDES_CSV
            write_slides_csv(path, self.rows, self._classes, self._kinds)
        self._written = time.monotonic()
