"""How trustworthy the picture of a region is: focus, folds, ink.

Four numbers per region, from a small sample of its pixels, so that they cost next to nothing beside
an encoder; and the doubts that follow from them. Simple on purpose: what it is good for and what it
misses is measured, see docs/quality.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import Doubt

if TYPE_CHECKING:
    from xt_backend.slides.thumbnail import Thumbnail
    from xt_backend.slides.tissue import Tissue

__all__ = ["MEASURES", "VERSION", "focus_mpp", "judge", "measure", "typical_density"]

MEASURES = ("focus", "texture", "density", "ink")
"""What `measure` gives, in this order."""

VERSION = 1
"""Of the measures; another one makes what was measured before be measured anew."""

_FOCUS_UM = 1.0
_FINER_THAN_SLIDE = 0.25
_FAR = 4
_STRIPES = 6
_SAMPLE_UM = 4.0
_APART = 4
"""Of as many samples along a side two make a patch, 8 um wide; the others are not looked at."""

_DENSITY_OF = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)
_PALEST = 1 / 3

# Sharp regions of six slides: above 0.039 in 99 of 100. The same ones blurred by 2 um (Gaussian
# sigma): below 0.025 in 95 of 100.
_BLURRED = 0.0255
_LEAST_TEXTURE = 6.0
# The palest third of a region absorbs up to 1.5 times what the slide's tissue does, and twice as
# much where that lies double.
_FOLDED = 1.55
_LEAST_FOLD_DENSITY = 0.10
_INKED = 0.10

_STAINED = 0.06
_FEWEST = 100

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Measures = npt.NDArray[np.float16]


def focus_mpp(model_mpp: float, slide_mpp: float) -> float:
    """The pixel size at which focus is judged, um/px.

    The whole multiple of the model's that is closest to 1 um/px, and no finer than the slide's
    own pixels: enlarged ones are always blurred.
    """
    return _binning(model_mpp, slide_mpp) * model_mpp


def _binning(model_mpp: float, slide_mpp: float) -> int:
    fits = round(_FOCUS_UM / model_mpp)
    return max(1, fits, math.ceil(slide_mpp / model_mpp - _FINER_THAN_SLIDE))


def measure(pixels: Pixels, model_mpp: float, slide_mpp: float) -> Measures:
    """Measure regions as they were read, before their stain is changed.

    Args:
        pixels: (n, R, R, 3) uint8.
        model_mpp: um/px of these pixels.
        slide_mpp: um/px of the slide.

    Returns:
        (n, 4) float16, all finite. ``focus``: how much neighbouring pixels of `focus_mpp` differ,
        squared, relative to those four apart; less the 1/16 that it is for what is smooth, and per
        um/px. ``texture``: the difference of those four apart, of 255 squared. ``density``: optical
        density that all channels have at least, in all but the palest third. ``ink``: share of the
        area, 0 to 1.
    """
    near, far = _differences(pixels[..., 1], _binning(model_mpp, slide_mpp))
    patches = _patches(pixels, model_mpp)
    floor = np.sort(patches.min(axis=2), axis=1)
    return np.stack(
        [
            (near / np.maximum(far, 1e-3) - 1 / _FAR**2) / focus_mpp(model_mpp, slide_mpp),
            np.minimum(far, 60_000),
            floor[:, int(_PALEST * floor.shape[1])],
            _inked(patches).mean(axis=1),
        ],
        axis=1,
    ).astype(np.float16)


def _differences(green: Pixels, bins: int) -> tuple[Floats, Floats]:
    """(n,) mean squared differences over 1 and over 4 binned px, along stripes both ways."""
    n, side = green.shape[:2]
    bins = min(bins, max(1, side // (2 * _FAR)))
    length = side // bins
    step = max(1, length // _STRIPES)
    near, far = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for plane in (green, green.swapaxes(1, 2)):
        rows = plane[:, : length * bins].reshape(n, length, bins, side)[:, step // 2 :: step]
        stripes = rows[..., : length * bins].sum(axis=2, dtype=np.uint16)
        binned = stripes.reshape(n, stripes.shape[1], length, bins).sum(axis=3, dtype=np.float32)
        binned /= bins * bins
        near += _mean_square(binned[..., 1:] - binned[..., :-1]) / 2
        far += _mean_square(binned[..., _FAR:] - binned[..., :-_FAR]) / 2
    return near, far


def _mean_square(values: Floats) -> Floats:
    flat = values.reshape(len(values), -1)
    return np.asarray(np.einsum("ij,ij->i", flat, flat) / max(1, flat.shape[1]), np.float32)


def _patches(pixels: Pixels, mpp: float) -> Floats:
    """(n, patches, 3) optical density of patches of about 8 um, every 16 um."""
    n, side = pixels.shape[:2]
    step = min(max(1, round(_SAMPLE_UM / mpp)), max(1, side // _APART))
    places = np.arange(step // 2, side, step)
    count = max(1, len(places) // _APART)
    first = (np.arange(count) * _APART + (_APART - 2) // 2).clip(0, len(places) - 1)
    pairs = places[np.stack([first, (first + 1).clip(0, len(places) - 1)], axis=1).ravel()]
    density = _DENSITY_OF[pixels[:, pairs[:, None], pairs]]
    means = density.reshape(n, count, 2, count, 2, 3).mean(axis=(2, 4))
    return np.asarray(means.reshape(n, count * count, 3), np.float32)


def _inked(patches: Floats) -> npt.NDArray[np.bool_]:
    """(n, patches): green, blue, red and black ink, also over tissue.

    Hematoxylin, eosin and DAB absorb green about as much as red or more, and never all light alike.
    """
    red, green, blue = np.moveaxis(patches, 2, 0)
    ink = (red > 0.3) & (red > 1.6 * green)
    ink |= (red > 0.7) & (red > 1.02 * green) & (red - blue > 0.62)
    ink |= (green > 1.0) & (blue > 0.75 * green) & (red < 0.3 * green)
    least, most = patches.min(axis=2), patches.max(axis=2)
    return np.asarray(ink | ((least > 0.85) & (most < 1.35 * least)), bool)


def typical_density(thumbnail: Thumbnail, tissue: Tissue) -> float | None:
    """Optical density that all channels have at least in half of a slide's stained tissue.

    None where hardly anything is stained.
    """
    height, width = thumbnail.valid.shape
    rows = (np.arange(height) + 0.5) * thumbnail.scale_y / tissue.scale_y
    columns = (np.arange(width) + 0.5) * thumbnail.scale_x / tissue.scale_x
    mask = tissue.mask
    seen = (
        thumbnail.valid
        & mask[
            np.minimum(rows.astype(int), mask.shape[0] - 1)[:, None],
            np.minimum(columns.astype(int), mask.shape[1] - 1),
        ]
    )
    if thumbnail.unreadable is not None:
        seen &= ~thumbnail.unreadable
    density = _DENSITY_OF[thumbnail.rgb[seen]]
    stained = density[density.mean(axis=1) > _STAINED]
    return float(np.median(stained.min(axis=1))) if len(stained) >= _FEWEST else None


def judge(measures: npt.NDArray[Any], typical: float | None) -> npt.NDArray[np.uint8]:
    """What is doubtful about regions.

    Args:
        measures: (n, 4) of `measure`; NaN where there are none.
        typical: `typical_density` of the slide; without it no fold is told.

    Returns:
        (n,) uint8, `Doubt`.
    """
    focus, texture, density, ink = np.asarray(measures, np.float32).T
    found = {
        Doubt.BLURRED: (focus < _BLURRED) & (texture >= _LEAST_TEXTURE),
        Doubt.PEN: ink >= _INKED,
        Doubt.NOT_MEASURED: np.isnan(focus),
    }
    if typical is not None:
        # Ink is dark too.
        dark = density > max(_FOLDED * typical, _LEAST_FOLD_DENSITY)
        found[Doubt.FOLDED] = dark & ~found[Doubt.PEN]
    doubts = np.zeros(len(focus), np.uint8)
    for doubt, where in found.items():
        doubts[where] |= np.uint8(doubt)
    return doubts
