"""slides.csv while a batch goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from xt_backend.keys import Encoding, RunFile, SlideStatus, Stopped
from xt_backend.outputs import SlideRow, write_slides_csv

from .folder import RunFolder
from .rows import stopped_row
from .task import Task

__all__ = ["SlideTable"]

INTERVAL_S = 5.0
"""The table is published at most this often, so that its cost does not grow with its square."""

_SECONDS = ("seconds_read", "seconds_encode", "seconds_context", "seconds_total")


class SlideTable:
    """The rows so far: one per task from the start, whatever ends the batch.

    A slide that an earlier call finished has its row of then until this call comes to it; the
    others have one that says that they were not started.

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
        self._before: dict[str, SlideRow] = {}
        if folder is not None:
            before = {row.id: row for row in folder.rows() if folder.holds(row.id)}
            for task in tasks:
                row = before.get(task.slide_id)
                if row is None or row.status == SlideStatus.FAILED:
                    continue
                self._before[task.slide_id] = self._rows[task.slide_id] = replace(
                    row,
                    row=task.source.row,
                    slide=task.name,
                    encoded_regions=0,
                    cache=str(Encoding.HIT),
                )

    @property
    def rows(self) -> tuple[SlideRow, ...]:
        """In the order of the inputs."""
        return tuple(self._rows.values())

    @property
    def due(self) -> bool:
        """It was published long ago."""
        return time.monotonic() - self._written > INTERVAL_S

    def before(self, slide_id: str) -> SlideRow | None:
        """The row of a slide that an earlier call finished, with nothing encoded by this one."""
        return self._before.get(slide_id)

    def is_done(self, slide_id: str) -> bool:
        """The slide's row is of a result."""
        return self._rows[slide_id].status != SlideStatus.FAILED

    def lacks(self, slide_id: str) -> bool:
        """There is a result of the slide, but no row of it."""
        return (
            self._folder is not None and not self.is_done(slide_id) and self._folder.holds(slide_id)
        )

    def add(self, row: SlideRow) -> None:
        """Take the row of a slide; seconds that it does not know are those of its earlier row."""
        before = self._before.get(row.id)
        if before is not None and row.status != SlideStatus.FAILED and row.seconds_total is None:
            row = replace(row, **{name: getattr(before, name) for name in _SECONDS})
        self._rows[row.id] = row

    def write(self) -> None:
        """Publish the table."""
        if self._folder is not None:
            path = self._folder.path / RunFile.SLIDES_CSV
            write_slides_csv(path, self.rows, self._classes, self._kinds)
        self._written = time.monotonic()
