"""How much each place of a thumbnail looks like stained tissue.

Stain is what absorbs more light than the glass around it, or what has texture or a faint colour
together with roughness although it is as pale as glass: fat and loose stroma look like that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from xt_backend.slides.box_filter import box_least, box_most
from xt_backend.slides.foreign import find_foreign, refuse_unless_brightfield
from xt_backend.slides.glass import Floats, Glass, Mask, find_glass, local_texture
from xt_backend.slides.thumbnail import Thumbnail

__all__ = ["Evidence", "weigh"]

# What counts as tissue at the default sensitivity, in optical density above the glass. Glass with
# array spots and smeared stain reaches half of these, fat between lymph nodes twice the faint ones.
_DENSITY = 0.035
_TEXTURE = 0.014
_FAINT_COLOUR = 0.0025
_FAINT_TEXTURE = 0.005
_COLOUR = 0.016
# Less of a difference between the channels, relative to the strongest, is grey.
_GREY = 0.15

_SPECK_TEXTURE = 0.015
_STEPS = 50 / _TEXTURE
_GAP_UM = 64.0
_FAINT_BLOCK_PX = 4
_DENSITY_OF = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)


@dataclass(frozen=True)
class Evidence:
    """What speaks for tissue at each place, before any threshold.

    Attributes:
        stain: (h, w) float32, 1 is tissue at the default sensitivity, more is clearer.
        colour: (h, w) float32, the same for colour alone, which grey dirt has not.
        foreign: (h, w), ink, black frames and the like, whatever the threshold.
        seen: (h, w), the pixels that were read from the slide.
        unreadable: (h, w), pixels of the slide that could not be read.
        glass: None where none is in view and everything is tissue.
        is_coloured: False for grey pictures, where `colour` says nothing.
        is_black: The slide shows nothing.
        gap_px: Half-width of the widest gap that belongs to the tissue around it.
        um_per_px: Of the thumbnail, or None.
    """

    stain: Floats
    colour: Floats
    foreign: Mask
    seen: Mask
    unreadable: Mask
    glass: Glass | None
    is_coloured: bool
    is_black: bool
    gap_px: int
    um_per_px: float | None


def weigh(thumbnail: Thumbnail, *, slide_mpp: float | None = None) -> Evidence:
    """Measures once what `tissue_at` then cuts at any sensitivity.

    Args:
        thumbnail: The whole slide.
        slide_mpp: um per level-0 px. With it, gaps up to 128 um, which is a region of 256 px at
            0.5 um/px, count as tissue; without it, gaps up to a 128th of the picture.

    Raises:
        UnsupportedSlideError: Fluorescence or dark-field.
    """
    rgb = np.ascontiguousarray(thumbnail.rgb.transpose(2, 0, 1))
    unreadable = np.zeros(rgb.shape[1:], bool)
    if thumbnail.unreadable is not None:
        unreadable = thumbnail.unreadable & thumbnail.valid
    seen = thumbnail.valid & ~unreadable
    um_per_px = slide_mpp and slide_mpp * (thumbnail.scale_x + thumbnail.scale_y) / 2
    gap_px = max(1, round(max(seen.shape) / 256 if not um_per_px else _GAP_UM / um_per_px))
    nothing = np.zeros(seen.shape, np.float32)
    if not seen.any():
        return Evidence(
            nothing, nothing, ~seen, seen, unreadable, None, False, False, gap_px, um_per_px
        )
    density = _DENSITY_OF[rgb]
    # All common stains absorb green.
    texture = local_texture(density[1], seen)
    glass = find_glass(density, texture, seen, gap_px)
    is_black = glass is None and refuse_unless_brightfield(rgb, seen)
    if glass is None:
        stain = colour = np.full(seen.shape, 0 if is_black else np.inf, np.float32)
        foreign = find_foreign(density, rgb, seen, stain > 1)
        return Evidence(
            stain, colour, foreign, seen, unreadable, None, False, is_black, gap_px, um_per_px
        )
    over = np.maximum(density - glass.local, 0) * seen
    most, least = over.max(axis=0), over.min(axis=0)
    faint = _faint(over, texture)
    strength = ndi.gaussian_filter(most, 1, truncate=2)
    rough = _rough(texture, seen) / _TEXTURE
    stain = np.maximum(np.maximum(strength / _DENSITY, faint), rough)
    range_ = ndi.gaussian_filter(most - least, 1, truncate=2)
    colour = np.where(range_ > _GREY * strength, range_ / _COLOUR, 0)
    colour = np.maximum(colour, faint)
    foreign = find_foreign(over, rgb, seen, stain > 1)
    found = (stain > 1) & seen & ~foreign
    n_found, n_coloured = np.count_nonzero(found), np.count_nonzero(found & (colour > 1))
    # Nearly nothing but grey: a grey picture, or a few specks of dirt on an empty glass.
    is_coloured = bool(n_coloured > 0.05 * n_found or n_found < 0.01 * np.count_nonzero(seen))
    return Evidence(
        stain, colour, foreign, seen, unreadable, glass, is_coloured, False, gap_px, um_per_px
    )


def _rough(texture: Floats, seen: Mask) -> Floats:
    """Texture of extended rough areas: a scratch or a stitching edge is only a thin ridge."""
    # Bytes are filtered several times faster; the step is a fiftieth of what tells tissue.
    steps = np.where(seen, np.minimum(texture * _STEPS, 254), 255).astype(np.uint8)
    ridgeless = box_least(steps, 7)
    ridgeless[ridgeless == 255] = 0
    return np.asarray(box_most(ridgeless, 5) / np.float32(_STEPS), np.float32)


def _faint(over: Floats, texture: Floats) -> Floats:
    """Pale but coloured and not smooth, averaged over a few pixels; 1 at the threshold.

    Haze on the glass has the colour but is smooth, dirt on it is rough but has no colour.
    """
    height, width = texture.shape
    # A single speck must not carry its whole neighbourhood.
    parts = [np.minimum(texture, _SPECK_TEXTURE), *over]
    small = [ndi.uniform_filter(_block_means(part), 5) for part in parts]
    most, least = np.max(small[1:], axis=0), np.min(small[1:], axis=0)
    colour = np.where(most - least > _GREY * most, most - least, 0)
    faint = np.minimum(small[0] / _FAINT_TEXTURE, colour / _FAINT_COLOUR)
    # The means reach beyond the tissue's edge, which the other evidence finds sharply.
    faint = ndi.minimum_filter(faint, 5)
    full = faint.repeat(_FAINT_BLOCK_PX, axis=0).repeat(_FAINT_BLOCK_PX, axis=1)
    return np.asarray(full[:height, :width], np.float32)


def _block_means(values: Floats) -> Floats:
    block = _FAINT_BLOCK_PX
    height, width = values.shape
    padded = np.pad(values, ((0, -height % block), (0, -width % block)), mode="edge")
    strips = padded.reshape(-1, block, padded.shape[1]).mean(axis=1)
    return np.asarray(strips.reshape(len(strips), -1, block).mean(axis=2), np.float32)
