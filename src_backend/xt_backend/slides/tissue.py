"""Where a slide has tissue: found, drawn by hand, or taken to be everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw
from scipy import ndimage as ndi
from shapely.geometry import MultiPolygon, Polygon

from xt_backend.errors import AnnotationError, UsageError
from xt_backend.slides.glass import Mask
from xt_backend.slides.shapes import Shape
from xt_backend.slides.stain import Evidence, weigh
from xt_backend.slides.thumbnail import Thumbnail

__all__ = [
    "DEFAULT_SENSITIVITY",
    "NOT_TISSUE",
    "Tissue",
    "everything",
    "find_tissue",
    "tissue_at",
    "tissue_from_mask",
    "tissue_from_shapes",
]

DEFAULT_SENSITIVITY = 0.5

NOT_TISSUE = frozenset({"exclude", "ignore", "ignore*", "background", "glass", "artifact"})
"""Classes, in lower case, whose outlines cut out of the tissue instead of adding to it."""

_SPECK_UM2 = 1e4
_SPECK_SHARE = 5e-5
_SPECK_MAX_SHARE = 5e-3
_COARSE_PX = 5


@dataclass(frozen=True)
class Tissue:
    """Which parts of a slide are tissue; its origin is the slide's level-0 pixel (0, 0).

    Attributes:
        mask: (h, w) bool.
        scale_x: Level-0 px per mask pixel along x.
        scale_y: Level-0 px per mask pixel along y.
        kind: ``all`` where no part of the slide is left out, ``none`` where nothing is left.
        glass_rgb: Colour of the bare glass, None where none was looked for or none is in view.
        reason: Why the mask is as it is, one sentence without full stop.
        n_slide_px: Mask pixels in which the slide has pixels at all.
    """

    mask: Mask
    scale_x: float
    scale_y: float
    kind: Literal["partial", "all", "none"]
    glass_rgb: tuple[int, int, int] | None
    reason: str
    n_slide_px: int

    def fraction(self) -> float:
        """Share of the slide's pixels that are tissue, 0 to 1."""
        return np.count_nonzero(self.mask) / self.n_slide_px if self.n_slide_px else 0.0


def find_tissue(
    thumbnail: Thumbnail,
    *,
    sensitivity: float = DEFAULT_SENSITIVITY,
    slide_mpp: float | None = None,
) -> Tissue:
    """Finds the tissue of a bright-field slide, whatever the stain.

    Everything that differs from the bare glass is tissue, but for ink, black frames, specks
    below 100 x 100 um and grey dirt on the glass. Gaps up to 128 um wide belong to the tissue
    around them. Where no glass is in view, all is tissue; so is what could not be read, so that
    its regions are tried and reported.

    Args:
        thumbnail: The whole slide; about 1000 px is enough.
        sensitivity: 0 to 1. How little a place may differ from glass and still be tissue: 0
            asks for four times the default's difference, 1 for a quarter of it. A higher value
            never loses a pixel that a lower one has.
        slide_mpp: um per level-0 px; None uses shares of the picture instead of um.

    Raises:
        UnsupportedSlideError: Fluorescence or dark-field.
        UsageError: `sensitivity` is not from 0 to 1.
    """
    return tissue_at(thumbnail, weigh(thumbnail, slide_mpp=slide_mpp), sensitivity=sensitivity)


def tissue_at(
    thumbnail: Thumbnail, evidence: Evidence, *, sensitivity: float = DEFAULT_SENSITIVITY
) -> Tissue:
    """Cuts `weigh`'s evidence for the same thumbnail; quick enough for a slider.

    Raises:
        UsageError: `sensitivity` is not from 0 to 1.
    """
    if not 0 <= sensitivity <= 1:
        raise UsageError(f"a tissue sensitivity of {sensitivity} was given", "Give 0 to 1")
    threshold = 4 ** (1 - 2 * sensitivity)
    # Each step keeps what it would keep of a smaller mask: that makes the sensitivity monotone.
    mask = (evidence.stain > threshold) & evidence.seen & ~evidence.foreign
    if evidence.is_coloured:
        near = _box_dilate(mask & (evidence.colour > threshold), min(evidence.gap_px, 20) + 2)
        # Black pigment is as grey as dirt, but lies inside the tissue.
        mask &= near | _enclosed(mask & near)
    speck_px = _speck_px(evidence)
    mask = _without_specks(mask, speck_px / 4)
    mask = _without_gaps(mask, evidence.gap_px) & evidence.seen & ~evidence.foreign
    mask = _without_specks(mask, speck_px) | evidence.unreadable
    return _tissue(mask, thumbnail, evidence)


def _tissue(mask: Mask, thumbnail: Thumbnail, evidence: Evidence) -> Tissue:
    slide = evidence.seen | evidence.unreadable
    rgb = evidence.glass.rgb if evidence.glass else None
    kind: Literal["partial", "all", "none"] = "partial"
    if not mask.any():
        kind = "none"
        reason = "the slide shows nothing but glass"
        if evidence.is_black:
            reason = "the slide is black everywhere"
        elif not slide.any():
            reason = "the slide holds no pixels"
        elif rgb is None:
            reason = "the slide shows nothing but ink or black"
    elif rgb is None:
        kind = "all" if mask[slide].all() else "partial"
        reason = "no glass is in view, so that everything counts as tissue"
    else:
        kind = "all" if mask[slide].all() else "partial"
        reason = f"tissue is what differs from glass of the colour {rgb}"
    n_foreign = np.count_nonzero(evidence.foreign & evidence.seen & ~mask)
    if kind == "partial" and n_foreign:
        reason += f", without ink and black ({n_foreign / np.count_nonzero(slide):.1%})"
    if evidence.unreadable.any():
        reason += ", and what could not be read"
    return Tissue(
        mask, thumbnail.scale_x, thumbnail.scale_y, kind, rgb, reason, np.count_nonzero(slide)
    )


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
        np.count_nonzero(mask),
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

    A mask pixel is tissue where an outline covers its centre or crosses it. Outlines of a class
    in `NOT_TISSUE` cut out of all others.

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
    kind: Literal["partial", "all", "none"] = "partial"
    if mask.all():
        kind = "all"
    elif not mask.any():
        kind = "none"
    return Tissue(mask, scale_x, scale_y, kind, None, reason, mask.size)


def _empty(width_px: int, height_px: int, max_px: int) -> tuple[Mask, float, float]:
    shrink = max(1.0, max(width_px, height_px) / max_px)
    width, height = max(1, round(width_px / shrink)), max(1, round(height_px / shrink))
    return np.zeros((height, width), bool), width_px / width, height_px / height


def _draw(
    mask: Mask, geometry: Polygon | MultiPolygon, scale_x: float, scale_y: float, value: bool
) -> None:
    size = mask.shape[1], mask.shape[0]
    for polygon in shapely.get_parts(geometry):
        # Each on a canvas of its own: its holes must not cut into another outline.
        canvas = Image.new("1", size)
        draw = ImageDraw.Draw(canvas)
        for ring, fill in [(polygon.exterior, 1), *((hole, 0) for hole in polygon.interiors)]:
            # Pillow counts from the centres of pixels.
            points = np.asarray(ring.coords)[:, :2] / (scale_x, scale_y) - 0.5
            draw.polygon([(float(x), float(y)) for x, y in points], fill=fill)
        mask[np.asarray(canvas)] = value


def _speck_px(evidence: Evidence) -> float:
    size = evidence.seen.size
    wanted = _SPECK_SHARE * size
    if evidence.um_per_px:
        wanted = _SPECK_UM2 / evidence.um_per_px**2
    return max(4.0, min(wanted, _SPECK_MAX_SHARE * size))


def _without_specks(mask: Mask, n_px: float) -> Mask:
    labels, _ = ndi.label(mask, np.ones((3, 3)))
    keep = np.bincount(labels.ravel()) >= n_px
    keep[0] = False
    return np.asarray(keep[labels], bool)


def _enclosed(mask: Mask) -> Mask:
    """What is not in the mask and has no way to the border of the picture."""
    labels, n_parts = ndi.label(~mask)
    is_open = np.zeros(n_parts + 1, bool)
    is_open[0] = True
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_open[side] = True
    return np.asarray(~is_open[labels], bool)


def _box_dilate(mask: Mask, half_px: int) -> Mask:
    grown = ndi.maximum_filter(mask.view(np.uint8), 2 * half_px + 1, mode="constant")
    return np.asarray(grown, bool)


def _without_gaps(mask: Mask, half_px: int) -> Mask:
    """Fills the gaps that an octagon 2 `half_px` wide does not fit into.

    The border of the picture counts as tissue. Wide octagons are fitted on a coarser mask.
    """
    step = -(-half_px // _COARSE_PX)
    if step == 1:
        return _octagon_close(mask, half_px)
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    closed = _octagon_close(blocks.any(axis=(1, 3)), round(half_px / step))
    # Blocks at the rim of the tissue are only partly tissue and stay as they are.
    inner = ndi.minimum_filter(closed.view(np.uint8), 3, mode="constant", cval=1) > 0
    return mask | inner.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]


def _octagon_close(mask: Mask, half_px: int) -> Mask:
    diamond_px = round(0.586 * half_px)
    box_px = 2 * (half_px - diamond_px) + 1
    grown = mask
    if diamond_px:
        grown = ndi.binary_dilation(grown, iterations=diamond_px)
    grown = ndi.maximum_filter(grown.view(np.uint8), box_px, mode="constant") > 0
    shrunk = ndi.minimum_filter(grown.view(np.uint8), box_px, mode="constant", cval=1) > 0
    if diamond_px:
        shrunk = ndi.binary_erosion(shrunk, iterations=diamond_px, border_value=1)
    return np.asarray(shrunk, bool)
