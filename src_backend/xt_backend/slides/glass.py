"""The bare glass of a slide: whether any is in view, and its colour at each place.

Glass is the brightest that a bright-field slide shows, hardly coloured and without texture, and
wider than the gaps inside tissue. Colours are optical densities, -log10(value / 255).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from xt_backend.slides.box_filter import box_least

__all__ = ["Floats", "Glass", "Mask", "find_glass", "local_texture"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

# Measured on scans of five makers: texture of glass with dirt, array spots and smeared stain
# stays below 0.006 (median 0.002), that of tissue is above 0.012 but for smooth, strong stain.
_SMOOTH = 0.012
_CALM = 0.004
_COLOUR_CAST = 0.16
_HAZE = 0.12
_DARKER_THAN_BRIGHTEST = 0.10
_DARKEST = 0.30
_WHITE = -np.log10(253.5 / 255)
_SHARE = 0.01
_NEARLY_ALL = 0.8
_BLOCK_PX = 16
_ENOUGH = 20_000
_BIN = 0.01
_FREQUENT = 0.05
_ALIKE = 0.03


@dataclass(frozen=True)
class Glass:
    """Colour of the bare glass.

    Attributes:
        density: (3,) float32, its typical optical density in red, green, blue.
        local: (3, h, w) float32, the density that bare glass has, or would have, at each place;
            it follows vignetting and stain that was smeared over the glass.
    """

    density: Floats
    local: Floats

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The typical colour, 0 to 255."""
        red, green, blue = (round(255 * 10.0 ** -float(v)) for v in self.density)
        return red, green, blue


def find_glass(density: Floats, texture: Floats, seen: Mask, gap_px: int) -> Glass | None:
    """Finds the glass, or returns None where none is in view.

    Args:
        density: (3, h, w) optical density of the thumbnail.
        texture: (h, w) result of `local_texture` for its green.
        seen: (h, w), the pixels that were read from the slide; at least one.
        gap_px: Glass is where a square of 2 `gap_px` + 1 fits, or nearly the whole picture.
    """
    mean = density.mean(axis=0)
    # Stitched scans and clipped ones are pure white in places that were never imaged.
    white = box_least((mean <= _WHITE).view(np.uint8), 5).view(bool) & seen
    imaged = seen & ~white
    cast = density.max(axis=0) - density.min(axis=0)
    bare = imaged & (texture < _SMOOTH) & (cast < _COLOUR_CAST)
    if bare.any():
        brightest = float(np.percentile(mean[imaged][::7], 1))
        bare &= mean < min(_DARKEST, brightest + _DARKER_THAN_BRIGHTEST)
    n_seen = int(np.count_nonzero(seen))
    if not _is_wide(bare | white, gap_px, n_seen):
        return None
    if np.count_nonzero(bare) < _SHARE * n_seen or not _is_wide(bare, gap_px, n_seen):
        # All glass is clipped to white; it then hides no haze either.
        return Glass(np.zeros(3, np.float32), np.zeros_like(density))
    typical = _typical(density, bare)
    if np.count_nonzero(bare) < _share_needed(typical) * n_seen:
        return None
    near = bare & (np.abs(density - typical[:, None, None]).max(axis=0) < _HAZE)
    return Glass(typical, _local(density, texture, near, typical))


def local_texture(density: Floats, seen: Mask) -> Floats:
    """Standard deviation of an (h, w) density within 5 x 5 px, of the `seen` pixels only."""
    mean = _box_mean(density, seen, 5)
    square = _box_mean(density * density, seen, 5)
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _box_mean(values: Floats, seen: Mask, size_px: int) -> Floats:
    """Mean of the `seen` (h, w) values around each place, 0 where there are none."""
    if seen.all():
        return np.asarray(ndi.uniform_filter(values, size_px), np.float32)
    weight = ndi.uniform_filter(seen.astype(np.float32), size_px)
    total = ndi.uniform_filter(np.where(seen, values, 0), size_px)
    # A tenth of one pixel's weight: below it there is only rounding.
    return np.asarray(np.where(weight > 0.1 / size_px**2, total / (weight + 1e-12), 0), np.float32)


def _share_needed(typical: Floats) -> float:
    """Share of the picture from which on a colour is believed to be glass."""
    if typical.max() > 0.15:
        return 0.3
    is_plain = typical.max() < 0.12 and np.ptp(typical) < 0.06
    return _SHARE if is_plain else 0.05


def _is_wide(bare: Mask, gap_px: int, n_seen: int) -> bool:
    if np.count_nonzero(bare) >= _NEARLY_ALL * n_seen:
        return True
    fits = box_least(bare.view(np.uint8), 2 * gap_px + 1)
    return bool(fits.any())


def _typical(density: Floats, bare: Mask) -> Floats:
    """Density of the brightest frequent colour among the pixels that look bare."""
    places = np.flatnonzero(bare)
    places = places[:: max(1, len(places) // _ENOUGH)]
    sample = density.reshape(3, -1)[:, places]
    counts, edges = np.histogram(sample[1], bins=np.arange(0, 0.6, _BIN))
    around = np.convolve(np.pad(counts, 1), np.ones(3), "same")
    is_peak = (around[1:-1] >= around[:-2]) & (around[1:-1] > around[2:])
    is_peak &= around[1:-1] > _FREQUENT * len(places)
    peak = int(np.argmax(is_peak)) if is_peak.any() else int(np.argmax(counts))
    chosen = sample[:, np.abs(sample[1] - edges[peak] - _BIN / 2) < 2 * _BIN]
    return np.asarray(np.median(chosen, axis=1), np.float32)


def _local(density: Floats, texture: Floats, near: Mask, typical: Floats) -> Floats:
    # Between the cells of fat it looks like glass; such a place is no measure of glass.
    count = _block_sums(near.astype(np.float32))
    roughness = _block_sums(np.minimum(texture, _SMOOTH)) / _block_sums(np.ones_like(texture))
    # Where the camera's noise alone is rougher, the calmest places tell.
    calmest = float(np.percentile(roughness[count > 0], 10))
    is_calm = (count > 0) & (roughness < max(_CALM, 1.5 * calmest))
    sums = np.stack([_block_sums(plane * near) for plane in density])
    # Haze fades into clear glass; smooth pale tissue has an edge, which is not calm.
    means = sums / np.maximum(count, 1)
    is_typical = is_calm & (np.abs(means - typical[:, None, None]).max(axis=0) < _ALIKE)
    labels, n_parts = ndi.label(is_calm)
    is_glass = np.zeros(n_parts + 1, bool)
    is_glass[labels[is_typical]] = True
    count, sums = count * is_glass[labels], sums * is_glass[labels]
    # The nearest glass counts most; far from any, the typical colour is all there is.
    weight = np.full(count.shape, 1e-3, np.float32)
    total = weight * typical[:, None, None]
    for sigma, trust in ((1.0, 1.0), (4.0, 0.02)):
        weight = weight + trust * ndi.gaussian_filter(count, sigma)
        total = total + trust * ndi.gaussian_filter(sums, (0, sigma, sigma))
    blocks = total / weight
    down, across = _interpolation(near.shape[0]), _interpolation(near.shape[1])
    return np.asarray(down @ blocks @ across.T, np.float32)


def _block_sums(values: Floats) -> Floats:
    height, width = values.shape
    padded = np.pad(values, ((0, -height % _BLOCK_PX), (0, -width % _BLOCK_PX)))
    strips = padded.reshape(-1, _BLOCK_PX, padded.shape[1]).sum(axis=1)
    return np.asarray(strips.reshape(len(strips), -1, _BLOCK_PX).sum(axis=2), np.float32)


def _interpolation(size_px: int) -> Floats:
    """(size_px, n_blocks) matrix that interpolates linearly between the centres of blocks."""
    n_blocks = -(-size_px // _BLOCK_PX)
    place = ((np.arange(size_px) + 0.5) / _BLOCK_PX - 0.5).clip(0, n_blocks - 1)
    low = place.astype(int)
    matrix = np.zeros((size_px, n_blocks), np.float32)
    np.add.at(matrix, (np.arange(size_px), low), 1 - (place - low))
    np.add.at(matrix, (np.arange(size_px), np.minimum(low + 1, n_blocks - 1)), place - low)
    return matrix
