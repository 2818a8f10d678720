"""What in a thumbnail is neither tissue nor glass: pen ink, black frames, wrong modalities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from xt_backend.errors import UnsupportedSlideError
from xt_backend.slides.glass import Floats, Mask
from xt_backend.slides.morphology import box_dilate

__all__ = ["find_foreign", "refuse_unless_brightfield"]

_DARK = 64
_GREY = 24
_BLACK = 16
_RIM_PX = 4
_MIXED_PX = 6


def find_foreign(over: Floats, rgb: npt.NDArray[np.uint8], seen: Mask, stained: Mask) -> Mask:
    """Pen ink in colours that no common stain has, and black that is not inside tissue.

    Hematoxylin, eosin and DAB absorb green about as much as red or more, and never red alone.
    Inks that absorb red most are blue or green, one that absorbs only blue is yellow, and red ink
    lets through more red than eosin does. Such a colour that lies mixed with others is a stain, as
    in a trichrome. Dark blue ink has the colour of hematoxylin and is not told apart.

    Args:
        over: (3, h, w) optical density above the glass.
        rgb: (3, h, w) uint8.
        seen: (h, w), the pixels that were read.
        stained: (h, w), what would be tissue or foreign.
    """
    red, green, blue = over
    is_blue = (red > 0.25) & (red > 1.6 * green)
    is_blue |= (red > 0.4) & (red > 1.1 * green) & (blue < 0.3 * red)
    is_red = (green > 0.65) & (blue > 0.75 * green) & (red < 0.15 * green)
    is_red |= (green > 0.4) & (blue > 0.95 * green) & (red < 0.12 * green)
    is_yellow = (blue > 0.3) & (blue > 4 * green) & (blue > 4 * red)
    ink = _grown(is_blue, (red > 0.03) & (red > 1.05 * green))
    ink |= _grown(is_red, (green > 0.05) & (blue > 0.65 * green) & (red < 0.35 * green))
    ink |= _grown(is_yellow, (blue > 0.05) & (blue > 2 * green) & (blue > 2 * red))
    ink &= seen
    if ink.any():
        other = stained & seen & ~ink
        if np.count_nonzero(ink & box_dilate(other, _MIXED_PX)) > 0.5 * np.count_nonzero(ink):
            ink[:] = False
    return np.asarray(ink | _black(rgb, seen, stained), bool)


def _grown(core: Mask, weak: Mask) -> Mask:
    """Compact places of the core, with the blurred and weaker rim of the stroke around them."""
    compact = _compact(core)
    if not compact.any():
        return compact
    return np.asarray(
        box_dilate(compact, _RIM_PX) | (box_dilate(compact, 2 * _RIM_PX) & weak), bool
    )


def _compact(core: Mask) -> Mask:
    """Opening by 3 x 3."""
    if np.count_nonzero(core) < 9:
        return np.zeros(core.shape, bool)
    return box_dilate(ndi.minimum_filter(core.view(np.uint8), 3, mode="constant").view(bool), 1)


def _black(rgb: npt.NDArray[np.uint8], seen: Mask, stained: Mask) -> Mask:
    """Frames, edges and black ink; black pigment inside tissue is left alone."""
    brightest, dimmest = rgb.max(axis=0), rgb.min(axis=0)
    core = seen & (brightest < _DARK) & (brightest - dimmest < _GREY)
    core = _compact(core)
    if not core.any():
        return core
    labels, n_parts = ndi.label(core, np.ones((3, 3)))
    around = ndi.maximum_filter(labels, 4 * _RIM_PX + 1)
    rim = box_dilate(core, _RIM_PX)
    # The blurred rim of the black itself says nothing about what it lies in.
    ring = (around > 0) & ~rim
    sides = np.bincount(around[ring], minlength=n_parts + 1)
    tissue = np.bincount(around[ring & stained & seen], minlength=n_parts + 1)
    inside = (tissue > 0.6 * sides) & (sides > 0)
    inside[np.unique(labels[_edge(seen)])] = False
    inside[0] = False
    outside = core & ~inside[labels]
    return box_dilate(outside, _RIM_PX)


def _edge(seen: Mask) -> Mask:
    """Where the slide's pixels end."""
    inner = ndi.minimum_filter(seen.view(np.uint8), 3, mode="constant") > 0
    return np.asarray(seen & ~inner, bool)


def refuse_unless_brightfield(rgb: npt.NDArray[np.uint8], seen: Mask) -> bool:
    """Judges a picture in which no glass is in view.

    Args:
        rgb: (3, h, w) uint8.
        seen: (h, w), the pixels that were read; at least one.

    Returns:
        Whether the picture is black everywhere.

    Raises:
        UnsupportedSlideError: It is mostly black but not everywhere, or its colours are those
            of fluorescence channels shown together.
    """
    way_out = (
        "Only bright-field slides can be scored; if this is one, give --tissue all or the "
        "outlines of the tissue"
    )
    red, green, blue = rgb[:, seen].astype(np.int16)
    brightest = np.maximum(np.maximum(red, green), blue)
    if np.mean(brightest < _DARK) > 0.5:
        if np.percentile(brightest, 99.9) < _BLACK:
            return True
        raise UnsupportedSlideError(
            "the slide is mostly black, as in fluorescence or dark-field microscopy", way_out
        )
    is_green = (green > red + 4) & (green > blue + 4)
    # Bright-field stains leave red the strongest or, with blue, nearly so.
    if np.mean(is_green) > 0.05 and np.mean(green > red + 12) > 0.1:
        raise UnsupportedSlideError(
            "the slide shows no glass and the colours of fluorescence channels", way_out
        )
    return False
