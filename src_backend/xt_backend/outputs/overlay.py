"""``<id>.overlay.png``: the slide, small, with what the model predicts drawn over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xt_backend.keys import OverlayText
from xt_backend.outputs.dots import draw_dots
from xt_backend.outputs.legend import OUTLINE, Found, Mark, draw_legend, marks_of, pattern
from xt_backend.outputs.mask_tiff import SlideMask
from xt_backend.outputs.palette import rgb as rgb_of
from xt_backend.outputs.slide_frame import SlideFrame, framed
from xt_backend.publishing import publish
from xt_backend.slides.lattice import Lattice
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = [
    "overlay_image",
    "paint_cells",
    "paint_points",
    "painted",
    "write_overlay",
]

_CLASS_OPACITY = 0.5
_MARK_OPACITY = 0.85
_COMPRESSION = 2
"""A tenth larger than at zlib's default, and written in less than half its time."""
_OUTLINE_PX = 2

Pixels = npt.NDArray[np.uint8]


def write_overlay(
    path: Path,
    score_map: ScoreMap,
    rgb: Pixels,
    scale_x: float,
    scale_y: float,
    found: Found = None,
) -> None:
    """Publish the overlay as PNG; a text in it says how large the slide's picture is.

    Args:
        path: Where it should go.
        score_map: What to draw.
        rgb: (h, w, 3) uint8 thumbnail of the whole slide, from its level-0 pixel (0, 0).
        scale_x: Level-0 px per thumbnail px along x.
        scale_y: Level-0 px per thumbnail px along y.
        found: As of `overlay_image`.

    Raises:
        UsageError: The thumbnail or its scale is none.
        OutputError: It cannot be written.
    """
    frame = framed(score_map, rgb, scale_x, scale_y)
    said = PngInfo()
    said.add_text(OverlayText.PICTURE, f"{frame.rgb.shape[1]},{frame.rgb.shape[0]}")
    if isinstance(found, Points):
        said.add_text(OverlayText.POINTS, str(len(found)))
    image = Image.fromarray(_with_legend(frame, score_map, found))
    with publish(path) as temp:
        image.save(temp, format="PNG", pnginfo=said, compress_level=_COMPRESSION)


def overlay_image(
    score_map: ScoreMap,
    rgb: Pixels,
    scale_x: float,
    scale_y: float,
    found: Found = None,
) -> Pixels:
    """Draw the overlay: picture, legend and scale bar.

    What is drawn is what the model predicts: the classes of regions; of dense models those of the
    mask's pixels; of detection models the points. Slide models say nothing of single regions, so
    none is coloured for them. Where there are no colours to show it, an outline shows where the
    model looked.

    Only the slide's bounds are shown, enlarged or shrunk to a handy size. A picture pixel belongs
    to the region, or the pixel of the mask, that holds its middle. Regions that were not scored are
    marked, never coloured as a class; of overlapping regions each shows its middle, as wide as the
    stride.

    Args:
        score_map: What to draw.
        rgb: (h, w, 3) uint8 thumbnail of the whole slide, from its level-0 pixel (0, 0).
        scale_x: Level-0 px per thumbnail px along x.
        scale_y: Level-0 px per thumbnail px along y.
        found: The mask of a dense model, the points of a detection model; without them such a
            model's picture shows only where it looked.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UsageError: The thumbnail or its scale is none.
    """
    return _with_legend(framed(score_map, rgb, scale_x, scale_y), score_map, found)


def _with_legend(frame: SlideFrame, score_map: ScoreMap, found: Found) -> Pixels:
    um_per_px = frame.step_x * score_map.slide_mpp[0]
    return draw_legend(_drawn(frame, score_map, found), score_map, found, um_per_px=um_per_px)


def _drawn(frame: SlideFrame, score_map: ScoreMap, found: Found) -> Pixels:
    """The frame with what the model of the run predicts over it, (h, w, 3) uint8."""
    if score_map.task == "region":
        return painted(frame, score_map)
    if isinstance(found, SlideMask):
        frame = replace(frame, rgb=_with_mask(frame, found))
    else:
        frame = replace(frame, rgb=_outlined(frame, score_map))
    marks = marks_of(score_map)
    marked = marks >= 0
    cells = score_map.cells[marked]
    frame = replace(
        frame, rgb=paint_cells(frame, score_map.lattice, cells, marks[marked], list(Mark))
    )
    return paint_points(frame, score_map, found) if isinstance(found, Points) else frame.rgb


def _with_mask(frame: SlideFrame, mask: SlideMask) -> Pixels:
    """The frame with the classes of the mask's pixels over it."""
    finest = mask.levels[0]
    middles, origin = frame.middles_px(), mask.origin_px
    rows, cols = (
        np.floor((middles[axis] - origin[1 - axis]) * mask.slide_mpp[1 - axis] / mask.mpp)
        for axis in (0, 1)
    )
    down, across = ((at >= 0) & (at < n) for at, n in zip((rows, cols), finest.shape, strict=True))
    inside = np.ix_(down, across)
    kinds = np.zeros(frame.rgb.shape[:2], np.uint8)
    kinds[inside] = finest[np.ix_(rows[down].astype(np.int64), cols[across].astype(np.int64))]
    colors = np.array([(0, 0, 0), *map(rgb_of, mask.colors)], np.float32)
    blended = frame.rgb + _CLASS_OPACITY * (colors[kinds] - frame.rgb)
    return np.where((kinds > 0)[..., None], np.rint(blended), frame.rgb).astype(np.uint8)


def _outlined(frame: SlideFrame, score_map: ScoreMap) -> Pixels:
    """The frame with a line around the scored regions, within them."""
    lattice = score_map.lattice
    looked = np.zeros((lattice.n_rows + 1, lattice.n_cols + 1), np.bool_)
    cells = score_map.cells[marks_of(score_map) < 0]
    looked[cells[:, 1], cells[:, 0]] = True
    rows, cols = frame.cells(lattice)
    inner = within = looked[rows[:, None], cols[None, :]]
    for _ in range(_OUTLINE_PX):
        padded = np.pad(inner, 1)
        inner = inner & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return np.where((within & ~inner)[..., None], np.array(OUTLINE, np.uint8), frame.rgb)


def paint_points(frame: SlideFrame, score_map: ScoreMap, points: Points) -> Pixels:
    """The frame with the points of a detection model over it, (h, w, 3) uint8."""
    x_px = (points.x_px - frame.x0_px) / frame.step_x
    y_px = (points.y_px - frame.y0_px) / frame.step_y
    # A pixel's middle has whole numbers where it is drawn.
    return draw_dots(frame.rgb, score_map, points, x_px - 0.5, y_px - 0.5)


def painted(frame: SlideFrame, score_map: ScoreMap) -> Pixels:
    """The frame with the regions' classes and marks over it, (h, w, 3) uint8."""
    marks = marks_of(score_map)
    kinds = np.where(marks >= 0, len(score_map.classes) + marks, score_map.labels())
    paints: list[str | Mark] = [*score_map.colors, *Mark]
    return paint_cells(frame, score_map.lattice, score_map.cells, kinds, paints)


def paint_cells(
    frame: SlideFrame,
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
