"""Tissue that was drawn or painted by hand, or taken to be everywhere."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw
from shapely.geometry import MultiPolygon, Polygon

from xt_backend.errors import AnnotationError
from xt_backend.slides.glass import Mask
from xt_backend.slides.shapes import Shape
from xt_backend.slides.tissue import Tissue, kind_of

__all__ = ["NOT_TISSUE", "everything", "tissue_from_mask", "tissue_from_shapes"]

NOT_TISSUE = frozenset({"artifact", "background", "exclude", "glass", "ignore", "ignore*"})
"""Classes, in lower case, whose outlines cut out of the tissue instead of adding to it."""


def everything(
    width_px: int,
    height_px: int,
    bounds_px: tuple[int, int, int, int] | None = None,
    *,
    max_px: int = 1024,
) -> Tissue:
    """Takes all of the slide's bounds as tissue, without reading a pixel.

    Args:
        width_px: Width of level 0.
        height_px: Height of level 0.
        bounds_px: x, y, width, height, level-0 px; None for the whole slide.
        max_px: Longest side of the mask.
    """
    x, y, width, height = bounds_px or (0, 0, width_px, height_px)
    mask, scale_x, scale_y = _empty(width_px, height_px, max_px)
    columns = slice(int(x / scale_x), -int(-(x + width) // scale_x))
    rows = slice(int(y / scale_y), -int(-(y + height) // scale_y))
    mask[rows, columns] = True
    return Tissue(
        mask,
        scale_x,
        scale_y,
        "all",
        None,
        "everything counts as tissue, as asked for",
        int(np.count_nonzero(mask)),
    )


def tissue_from_mask(mask: npt.ArrayLike, width_px: int, height_px: int) -> Tissue:
    """Takes a mask that was painted over the whole slide.

    Args:
        mask: (h, w) of bool or of numbers, not 0 where there is tissue; any resolution.
        width_px: Width of level 0.
        height_px: Height of level 0.

    Raises:
        AnnotationError: The mask is not two-dimensional, or its shape is not the slide's.
    """
    painted = np.asarray(mask)
    if painted.ndim != 2 or not painted.size:
        raise AnnotationError(
            f"the tissue mask has the shape {painted.shape}",
            "Give a picture with one channel that covers the whole slide",
        )
    height, width = painted.shape
    scale_x, scale_y = width_px / width, height_px / height
    # One pixel more or less is how a program rounds a shrunken slide.
    if abs(width_px / scale_y - width) > 1.5 and abs(height_px / scale_x - height) > 1.5:
        raise AnnotationError(
            f"the tissue mask has {width} x {height} px, another shape than the slide's "
            f"{width_px} x {height_px} px",
            "Give a mask that covers the whole slide",
        )
    return _by_hand(painted != 0, scale_x, scale_y, "tissue was painted by hand")


def tissue_from_shapes(
    shapes: Iterable[Shape], width_px: int, height_px: int, *, max_px: int = 4096
) -> Tissue:
    """Takes outlines that were drawn by hand, as `read_shapes` gives them.

    Outlines of a class in `NOT_TISSUE` cut out of all others. The mask follows the outlines to
    within one of its pixels.

    Args:
        shapes: The outlines, level-0 px.
        width_px: Width of level 0.
        height_px: Height of level 0.
        max_px: Longest side of the mask; a slide smaller than that has one of its own size.

    Raises:
        AnnotationError: There is no outline of tissue, or none lies on the slide.
    """
    added: list[Polygon | MultiPolygon] = []
    cut: list[Polygon | MultiPolygon] = []
    for shape in shapes:
        (cut if (shape.name or "").lower() in NOT_TISSUE else added).append(shape.geometry)
    if not added:
        raise AnnotationError(
            "the file of tissue outlines has no outline of tissue",
            "Draw at least one area, or use --tissue auto or --tissue all",
        )
    mask, scale_x, scale_y = _empty(width_px, height_px, max_px)
    for geometry in added:
        _draw(mask, geometry, scale_x, scale_y, True)
    if not mask.any():
        raise AnnotationError(
            "no outline of the tissue lies on the slide",
            "Check that the outlines are those of this slide and in level-0 pixels",
        )
    for geometry in cut:
        _draw(mask, geometry, scale_x, scale_y, False)
    return _by_hand(mask, scale_x, scale_y, "tissue was outlined by hand")


def _by_hand(mask: Mask, scale_x: float, scale_y: float, reason: str) -> Tissue:
    kind = kind_of(mask, np.ones_like(mask))
    return Tissue(mask, scale_x, scale_y, kind, None, reason, mask.size)


def _empty(width_px: int, height_px: int, max_px: int) -> tuple[Mask, float, float]:
    shrink = max(1.0, max(width_px, height_px) / max_px)
    width, height = max(1, round(width_px / shrink)), max(1, round(height_px / shrink))
    return np.zeros((height, width), bool), width_px / width, height_px / height


def _draw(
    mask: Mask, geometry: Polygon | MultiPolygon, scale_x: float, scale_y: float, value: bool
) -> None:
    for polygon in shapely.get_parts(geometry):
        left, top, right, bottom = polygon.bounds / np.array([scale_x, scale_y] * 2)
        x0, y0 = max(0, int(left)), max(0, int(top))
        x1, y1 = min(mask.shape[1], int(right) + 1), min(mask.shape[0], int(bottom) + 1)
        if x1 <= x0 or y1 <= y0:
            continue
        # Each on a canvas of its own: its holes must not cut into another outline.
        canvas = Image.new("1", (x1 - x0, y1 - y0))
        draw = ImageDraw.Draw(canvas)
        for ring, fill in [(polygon.exterior, 1), *((hole, 0) for hole in polygon.interiors)]:
            # Pillow counts from the centres of pixels.
            points = np.asarray(ring.coords)[:, :2] / (scale_x, scale_y) - (x0 + 0.5, y0 + 0.5)
            draw.polygon([(float(x), float(y)) for x, y in points], fill=fill)
        mask[y0:y1, x0:x1][np.asarray(canvas)] = value
