"""How many regions are corrected, counted beside the window while one paints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_xt.latest_job import LatestJob

if TYPE_CHECKING:
    from napari_xt.correct.marks import Marks

__all__ = ["Counting"]

REST_MS = 120
"""A stroke tells of itself at every pixel; it is counted when the hand rests."""


class Counting(QObject):
    """Tells the counts of the marks that were asked about last.

    Args:
        say: Told the number of regions by class, or the XTError.
        parent: Owner in the sense of Qt.
    """

    def __init__(self, say: Callable[[Any], None], parent: QObject) -> None:
        super().__init__(parent)
        self._marks: Marks | None = None
        self._job = LatestJob(say, self)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._count)

    def ask(self, marks: Marks | None) -> None:
        """Count these soon; None: nothing more is to be told."""
        self._marks = marks
        self._job.forget()
        if marks is None:
            self._rest.stop()
        else:
            self._rest.start()

    def _count(self) -> None:
        if self._marks is not None:
            self._job.ask(self._marks.counting())
