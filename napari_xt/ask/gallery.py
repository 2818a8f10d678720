"""Regions as small pictures, read from the slide beside the window's thread; click to go there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem, QWidget

from napari_xt.latest_job import LatestJob
from xt_backend.errors import XTError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_xt.pyramid import Pyramid
    from xt_backend.store import ScoreMap

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Gallery", "thumbnail"]

PICTURE_PX = 60
A_LINE = 4
_LINE_PX = PICTURE_PX + 22
_ROUND_ABOUT = 1.6
"""A picture is so many times as wide as its region: what lies around it helps to know it again."""


class Gallery(QListWidget):
    """Small pictures in rows of four."""

    chosen = Signal(int)
    """Row of the score map."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setMovement(QListView.Movement.Static)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setIconSize(QSize(PICTURE_PX, PICTURE_PX))
        self.setGridSize(QSize(PICTURE_PX + 8, _LINE_PX))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setToolTip("Click a picture to go there.")
        self._job = LatestJob(self._show, self)
        self.itemClicked.connect(self._on_clicked)

    def fill(
        self, score_map: ScoreMap, pyramid: Pyramid, rows: list[int], texts: list[str]
    ) -> None:
        """Show regions; their pictures come when they have been read.

        Args:
            score_map: Where they lie.
            pyramid: The slide.
            rows: Rows of the score map.
            texts: What is written under each.
        """
        self.clear()
        for row, text in zip(rows, texts, strict=True):
            item = QListWidgetItem(QIcon(_pixmap(np.full((8, 8, 3), 160, np.uint8))), text)
            item.setData(Qt.ItemDataRole.UserRole, row)
            item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter)
            self.addItem(item)
        self.setFixedHeight(_LINE_PX * -(-max(1, len(rows)) // A_LINE) + 6)
        if rows:
            self._job.ask(lambda: [(row, thumbnail(score_map, pyramid, row)) for row in rows])
        else:
            self._job.forget()

    def rows(self) -> list[int]:
        """Rows of the score map that are shown."""
        return [self.item(i).data(Qt.ItemDataRole.UserRole) for i in range(self.count())]

    def _show(self, pictures: Any) -> None:
        if isinstance(pictures, XTError):  # the slide was closed, or its file is gone
            return
        by_row = dict(pictures)
        for index in range(self.count()):
            item = self.item(index)
            pixels = by_row.get(item.data(Qt.ItemDataRole.UserRole))
            if pixels is not None:
                item.setIcon(QIcon(_pixmap(pixels)))

    def _on_clicked(self, item: QListWidgetItem) -> None:
        self.chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def thumbnail(score_map: ScoreMap, pyramid: Pyramid, row: int) -> Pixels:
    """A region with a little of what lies around it, from the level that is just fine enough.

    Args:
        score_map: Where it lies.
        pyramid: The slide; its cache of tiles is used.
        row: Row of the score map.

    Returns:
        (h, w, 3) uint8, about square.

    Raises:
        SlideError: The slide was closed meanwhile.
    """
    x0, y0, x1, y1 = score_map.lattice.boxes(score_map.cells[row : row + 1])[0].tolist()
    half = max(x1 - x0, y1 - y0) * _ROUND_ABOUT / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    levels = pyramid.levels
    width_px = levels[0].shape[1]
    index, scale = 0, 1.0
    for number, level in enumerate(levels):
        factor = width_px / level.shape[1]
        if 2 * half / factor >= PICTURE_PX:
            index, scale = number, factor
    shape = levels[index].shape
    left, right = (int(np.clip(v / scale, 0, shape[1])) for v in (x - half, x + half))
    top, bottom = (int(np.clip(v / scale, 0, shape[0])) for v in (y - half, y + half))
    return pyramid.read(index, left, top, max(right, left + 1), max(bottom, top + 1), patient=True)


def _pixmap(pixels: Pixels) -> QPixmap:
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image.copy()).scaled(
        PICTURE_PX,
        PICTURE_PX,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
