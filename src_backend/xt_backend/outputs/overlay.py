"""``<id>.overlay.png``: the slide, small, with the predicted classes over its scored regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.errors import UsageError
from xt_backend.outputs.legend import Mark, draw_legend, marks_of, pattern
from xt_backend.outputs.palette import rgb as rgb_of
from xt_backend.publishing import publish
from xt_backend.slides.lattice import Lattice
from xt_backend.store.score_map import ScoreMap

__all__ = ["overlay_image", "write_overlay"]

_CLASS_OPACITY = 0.5
_MARK_OPACITY = 0.85
_MOST_LONG_SIDE_PX = 1600
_LEAST_LONG_SIDE_PX = 900

Pixels = npt.NDArray[np.uint8]


def write_overlay(
    path: Path, score_map: ScoreMap, rgb: Pixels, scale_x: float, scale_y: float
) -> None:
    """Publish the overlay as PNG.

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
    image = Image.fromarray(overlay_image(score_map, rgb, scale_x, scale_y))
    with publish(path) as temp:
        image.save(temp, format="PNG")


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
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise UsageError(f"the thumbnail is {rgb.dtype} {rgb.shape}", "Give (h, w, 3) uint8")
    if not min(scale_x, scale_y) > 0:
        raise UsageError(f"the thumbnail's scale is {scale_x}, {scale_y}", "Give level-0 px per px")
    x, y, width, height = score_map.bounds_px
    left, right = _window(x, width, scale_x, rgb.shape[1])
    top, bottom = _window(y, height, scale_y, rgb.shape[0])
    picture = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
    crop_width, crop_height = picture.size
    long_side = min(max(*picture.size, _LEAST_LONG_SIDE_PX), _MOST_LONG_SIDE_PX)
    zoom = long_side / max(picture.size)
    picture = picture.resize(
        (max(1, round(crop_width * zoom)), max(1, round(crop_height * zoom))),
        Image.Resampling.LANCZOS,
    )
    step_x = crop_width * scale_x / picture.width
    step_y = crop_height * scale_y / picture.height
    cols = _cell_of_pixels(score_map.lattice, 0, left * scale_x, step_x, picture.width)
    rows = _cell_of_pixels(score_map.lattice, 1, top * scale_y, step_y, picture.height)
    drawn = _paint(np.asarray(picture), score_map, cols, rows)
    return draw_legend(drawn, score_map, um_per_px=step_x * score_map.slide_mpp[0])


def _window(start_px: int, length_px: int, scale: float, size: int) -> tuple[int, int]:
    """The thumbnail pixels that show the level-0 px from start to start + length; at least one."""
    first = min(int(start_px / scale), size - 1)
    last = min(int(np.ceil((start_px + length_px) / scale)), size)
    return first, max(last, first + 1)


def _cell_of_pixels(
    lattice: Lattice, axis: int, start_px: float, step_px: float, n: int
) -> npt.NDArray[np.int64]:
    """The column (axis 0) or row (axis 1) in which the middle of each of n pixels lies, or -1."""
    count = (lattice.n_cols, lattice.n_rows)[axis]
    cells = np.zeros((count, 2), np.int64)
    cells[:, axis] = np.arange(count)
    boxes = lattice.boxes(cells)
    starts, ends = boxes[:, axis].astype(float), boxes[:, axis + 2].astype(float)
    if lattice.stride_px < lattice.region_px:
        stride = lattice.affine_to_level0()[axis, axis]
        starts, ends = (starts + ends - stride) / 2, (starts + ends + stride) / 2
    middles = start_px + (np.arange(n) + 0.5) * step_px
    found = np.searchsorted(starts, middles, side="right") - 1
    inside = (found >= 0) & (middles < ends[found])
    return np.where(inside, found, -1)


def _paint(
    picture: Pixels,
    score_map: ScoreMap,
    cols: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
) -> Pixels:
    nothing = len(score_map.classes) + len(Mark)
    marks = marks_of(score_map)
    kinds = np.where(marks >= 0, len(score_map.classes) + marks, score_map.labels())
    # One more row and column, of nothing, for the pixels in no cell (index -1).
    grid = np.pad(score_map.grid(kinds, fill=nothing), (0, 1), constant_values=nothing)
    kind_of_pixel = grid[rows[:, None], cols[None, :]]
    result = picture.astype(np.float32)
    for kind in np.unique(kind_of_pixel).tolist():
        if kind == nothing:
            continue
        where = kind_of_pixel == kind
        if kind < len(score_map.classes):
            paint = np.asarray(rgb_of(score_map.colors[kind]), np.float32)
            result[where] += _CLASS_OPACITY * (paint - result[where])
        else:
            paint = pattern(Mark(kind - len(score_map.classes)), where.shape)[where]
            result[where] += _MARK_OPACITY * (paint - result[where])
    return np.rint(result).astype(np.uint8)
