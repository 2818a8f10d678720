"""``<id>.overlay.png``: the slide, small, with the predicted classes over its scored regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xt_backend.errors import UsageError
from xt_backend.keys import OverlayText
from xt_backend.outputs.legend import Mark, draw_legend, marks_of, pattern
from xt_backend.outputs.palette import rgb as rgb_of
from xt_backend.publishing import publish
from xt_backend.slides.lattice import Lattice
from xt_backend.store.score_map import ScoreMap

__all__ = ["Frame", "framed", "overlay_image", "paint_cells", "painted", "write_overlay"]

_CLASS_OPACITY = 0.5
_MARK_OPACITY = 0.85
_MOST_LONG_SIDE_PX = 1600
_LEAST_LONG_SIDE_PX = 900
_COMPRESSION = 2
"""A tenth larger than at zlib's default, and written in less than half its time."""

Pixels = npt.NDArray[np.uint8]


def write_overlay(
    path: Path, score_map: ScoreMap, rgb: Pixels, scale_x: float, scale_y: float
) -> None:
    """Publish the overlay as PNG; a text in it says how large the slide's picture is.

    Args:
        path: Where it should go.
        score_map: What to draw.
        rgb: (h, w, 3) uint8 thumbnail of the whole slide, from its level-0 pixel (0, 0).
        scale_x: Level-0 px per thumbnail px along x.
        scale_y: Level-0 px per thumbnail px along y.

    Raises:
        UsageError: The thumbnail or its scale is none.
        OutputError: It cannot be written.
    """
    frame = framed(score_map, rgb, scale_x, scale_y)
    said = PngInfo()
    said.add_text(OverlayText.PICTURE, f"{frame.rgb.shape[1]},{frame.rgb.shape[0]}")
    image = Image.fromarray(_with_legend(frame, score_map))
    with publish(path) as temp:
        image.save(temp, format="PNG", pnginfo=said, compress_level=_COMPRESSION)


def overlay_image(score_map: ScoreMap, rgb: Pixels, scale_x: float, scale_y: float) -> Pixels:
    """Draw the overlay: picture, legend with shares, and scale bar.

    Only the slide's bounds are shown, enlarged or shrunk to a handy size. A picture pixel belongs
    to the region that holds its middle. Regions that were not scored are marked, never coloured
    as a class; of overlapping regions each shows its middle, as wide as the stride.

    Args:
        score_map: What to draw.
        rgb: (h, w, 3) uint8 thumbnail of the whole slide, from its level-0 pixel (0, 0).
        scale_x: Level-0 px per thumbnail px along x.
        scale_y: Level-0 px per thumbnail px along y.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UsageError: The thumbnail or its scale is none.
    """
    return _with_legend(framed(score_map, rgb, scale_x, scale_y), score_map)


@dataclass(frozen=True, eq=False)
class Frame:
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
        height, width = self.rgb.shape[:2]
        return (
            _cell_of_pixels(lattice, 1, self.y0_px, self.step_y, height),
            _cell_of_pixels(lattice, 0, self.x0_px, self.step_x, width),
        )


def framed(
    score_map: ScoreMap,
    rgb: Pixels,
    scale_x: float,
    scale_y: float,
    least_px: int = _LEAST_LONG_SIDE_PX,
    most_px: int = _MOST_LONG_SIDE_PX,
) -> Frame:
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
    return Frame(
        np.asarray(picture),
        left * scale_x,
        top * scale_y,
        crop_width * scale_x / picture.width,
        crop_height * scale_y / picture.height,
    )


def _with_legend(frame: Frame, score_map: ScoreMap) -> Pixels:
    um_per_px = frame.step_x * score_map.slide_mpp[0]
    return draw_legend(painted(frame, score_map), score_map, um_per_px=um_per_px)


def _window(start_px: int, length_px: int, scale: float, size: int) -> tuple[int, int]:
    """The thumbnail pixels that show the level-0 px from start to start + length; at least one."""
    first = min(int(start_px / scale), size - 1)
    last = min(int(np.ceil((start_px + length_px) / scale)), size)
    return first, max(last, first + 1)


def _cell_of_pixels(
    lattice: Lattice, axis: int, start_px: float, step_px: float, n: int
) -> npt.NDArray[np.int64]:
    """The column (axis 0) or row (axis 1) in which the middle of each of n pixels lies, or -1."""
    edges = lattice.middle_edges(axis)
    middles = start_px + (np.arange(n) + 0.5) * step_px
    found = np.searchsorted(edges, middles, side="right") - 1
    return np.where(found < len(edges) - 1, found, -1)


def painted(frame: Frame, score_map: ScoreMap) -> Pixels:
    """The frame with the classes and marks of a run over it, (h, w, 3) uint8."""
    marks = marks_of(score_map)
    kinds = np.where(marks >= 0, len(score_map.classes) + marks, score_map.labels())
    paints: list[str | Mark] = [*score_map.colors, *Mark]
    return paint_cells(frame, score_map.lattice, score_map.cells, kinds, paints)


def paint_cells(
    frame: Frame,
    lattice: Lattice,
    cells: npt.NDArray[np.int32],
    kinds: npt.NDArray[np.integer[Any]],
    paints: Sequence[str | Mark],
) -> Pixels:
    """The frame with cells of a lattice in any colours or marks over it.

    Args:
        frame: Of the slide.
        lattice: On it.
        cells: (n, 2) int of (col, row).
        kinds: (n,) index into `paints` for each cell.
        paints: "#rrggbb" or marks.

    Returns:
        (h, w, 3) uint8.
    """
    nothing = len(paints)
    # One more row and column, of nothing, for the pixels in no cell (index -1).
    grid = np.full((lattice.n_rows + 1, lattice.n_cols + 1), nothing, np.int32)
    grid[cells[:, 1], cells[:, 0]] = kinds
    rows, cols = frame.cells(lattice)
    kind_of_pixel = grid[rows[:, None], cols[None, :]]
    result = frame.rgb.astype(np.float32)
    for kind in np.unique(kind_of_pixel).tolist():
        if kind == nothing:
            continue
        where, made = kind_of_pixel == kind, paints[kind]
        if isinstance(made, Mark):
            paint = pattern(made, where.shape)[where]
            result[where] += _MARK_OPACITY * (paint - result[where])
        else:
            color = np.asarray(rgb_of(made), np.float32)
            result[where] += _CLASS_OPACITY * (color - result[where])
    return np.rint(result).astype(np.uint8)
