"""The slide's bounds as a small picture of a handy size, and where its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.errors import UsageError
from xt_backend.slides.lattice import Lattice
from xt_backend.store.score_map import ScoreMap

__all__ = ["SlideFrame", "framed"]

_MOST_LONG_SIDE_PX = 1600
_LEAST_LONG_SIDE_PX = 900

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SlideFrame:
    """The slide's bounds at the size in which they are drawn.

    Attributes:
        rgb: (h, w, 3) uint8.
        x0_px: Left edge of the first pixel, level-0 px.
        y0_px: Its upper edge.
        step_x: Level-0 px per pixel along x.
        step_y: Level-0 px per pixel along y.
    """

    rgb: Pixels
    x0_px: float
    y0_px: float
    step_x: float
    step_y: float

    def cells(self, lattice: Lattice) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row of the lattice for each row of pixels, and column for each column; -1 for none."""
        y_px, x_px = self.middles_px()
        return _cell_at(lattice, 1, y_px), _cell_at(lattice, 0, x_px)

    def middles_px(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(h,) y of the rows' middles and (w,) x of the columns' middles, level-0 px."""
        height, width = self.rgb.shape[:2]
        return (
            self.y0_px + (np.arange(height, dtype=np.float64) + 0.5) * self.step_y,
            self.x0_px + (np.arange(width, dtype=np.float64) + 0.5) * self.step_x,
        )


def framed(
    score_map: ScoreMap,
    rgb: Pixels,
    scale_x: float,
    scale_y: float,
    least_px: int = _LEAST_LONG_SIDE_PX,
    most_px: int = _MOST_LONG_SIDE_PX,
) -> SlideFrame:
    """Cut the bounds out of a thumbnail, and enlarge or shrink them to a handy size.

    Args:
        score_map: Of the slide.
        rgb: (h, w, 3) uint8 thumbnail of the whole slide, from its level-0 pixel (0, 0).
        scale_x: Level-0 px per thumbnail px along x.
        scale_y: Level-0 px per thumbnail px along y.
        least_px: Longer side of the result, at least.
        most_px: At most.

    Raises:
        UsageError: The thumbnail or its scale is none.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise UsageError(f"the thumbnail is {rgb.dtype} {rgb.shape}", "Give (h, w, 3) uint8")
    if not min(scale_x, scale_y) > 0:
        raise UsageError(f"the thumbnail's scale is {scale_x}, {scale_y}", "Give level-0 px per px")
    x, y, width, height = score_map.bounds_px
    left, right = _window(x, width, scale_x, rgb.shape[1])
    top, bottom = _window(y, height, scale_y, rgb.shape[0])
    picture = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
    crop_width, crop_height = picture.size
    long_side = min(max(*picture.size, least_px), most_px)
    zoom = long_side / max(picture.size)
    picture = picture.resize(
        (max(1, round(crop_width * zoom)), max(1, round(crop_height * zoom))),
        Image.Resampling.LANCZOS,
    )
    return SlideFrame(
        np.asarray(picture),
        left * scale_x,
        top * scale_y,
        crop_width * scale_x / picture.width,
        crop_height * scale_y / picture.height,
    )


def _window(start_px: int, length_px: int, scale: float, size: int) -> tuple[int, int]:
    """The thumbnail pixels that show the level-0 px from start to start + length; at least one."""
    first = min(int(start_px / scale), size - 1)
    last = min(int(np.ceil((start_px + length_px) / scale)), size)
    return first, max(last, first + 1)


def _cell_at(
    lattice: Lattice, axis: int, middles_px: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """The column (axis 0) or row (axis 1) in which each of n middles of pixels lies, or -1."""
    edges = lattice.middle_edges(axis)
    found = np.searchsorted(edges, middles_px, side="right") - 1
    return np.where(found < len(edges) - 1, found, -1)
