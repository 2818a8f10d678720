"""Painted thumbnails whose tissue is known, and the measures against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage as ndi

from xt_backend.slides import Thumbnail, Tissue

Colour = tuple[int, int, int]
Point = tuple[int, int]

GLASS: Colour = (243, 241, 242)
# Optical density of one unit of stain in red, green, blue.
HEMATOXYLIN = (0.65, 0.70, 0.29)
BLUISH_HEMATOXYLIN = (0.62, 0.50, 0.26)
EOSIN = (0.07, 0.99, 0.11)
DAB = (0.27, 0.57, 0.78)


@dataclass
class Picture:
    """(h, w, 3) uint8 and the (h, w) truth."""

    rgb: np.ndarray
    tissue: np.ndarray

    def thumbnail(self, scale: float = 1.0) -> Thumbnail:
        return Thumbnail(self.rgb, np.ones(self.tissue.shape, bool), scale, scale)


def _noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    field = ndi.gaussian_filter(rng.standard_normal(shape), sigma)
    return field / field.std()


def _blob(rng: np.random.Generator, height: int, width: int, reach: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((y - height / 2) / (height * reach), (x - width / 2) / (width * reach))
    return 1 - radius + 0.2 * _noise(rng, (height, width), 35) > 0


def _expose(
    density: np.ndarray, glass: Colour, rng: np.random.Generator, noise: float
) -> np.ndarray:
    sharp = ndi.gaussian_filter(density, (0.5, 0.5, 0))
    rgb = np.array(glass) * 10**-sharp + rng.normal(0, noise, density.shape)
    return rgb.clip(0, 255).round().astype(np.uint8)


def section(
    glass: Colour = GLASS,
    stains: Sequence[Sequence[float]] = (HEMATOXYLIN, EOSIN),
    *,
    strength: float = 1.0,
    noise: float = 1.5,
    fat: bool = True,
    seed: int = 0,
    height: int = 400,
    width: int = 500,
) -> Picture:
    """Textured tissue in the middle, a part of it fat: thin walls around glass-coloured cells."""
    rng = np.random.default_rng(seed)
    shape = height, width
    tissue = _blob(rng, height, width, 0.32)
    fine, middle = _noise(rng, shape, 1.2), _noise(rng, shape, 6)
    first = (0.15 + 0.12 * fine + 0.1 * middle).clip(0.02) * strength
    second = (0.2 + 0.08 * fine - 0.08 * middle).clip(0.03) * strength
    density = first[..., None] * np.array(stains[0]) + second[..., None] * np.array(stains[1])
    if fat:
        walls = np.abs(_noise(rng, shape, 2.5)) < 0.15
        lobules = _noise(rng, shape, 25) > 0.8
        density[lobules] = (walls[..., None] * 0.25 * np.array(stains[1]))[lobules]
    density[~tissue] = 0
    return Picture(_expose(density, glass, rng, noise), tissue)


def smooth_section(density: Sequence[float], reach: float = 0.35, seed: int = 0) -> Picture:
    """Tissue without structure, such as brain at low power."""
    rng = np.random.default_rng(seed)
    tissue = _blob(rng, 400, 500, reach)
    soft = ndi.gaussian_filter(tissue.astype(float), 0.7)[..., None]
    grain = 1 + 0.08 * _noise(rng, tissue.shape, 2)[..., None]
    return Picture(_expose(soft * np.array(density) * grain, GLASS, rng, 1.0), tissue)


def empty_glass(colour: Colour = (240, 240, 240), noise: float = 1.5) -> Picture:
    rng = np.random.default_rng(0)
    rgb = np.array(colour) + rng.normal(0, noise, (300, 400, 3))
    return Picture(rgb.clip(0, 255).round().astype(np.uint8), np.zeros((300, 400), bool))


def draw_ink(
    picture: Picture, points: Sequence[Point], width_px: int, colour: Colour
) -> np.ndarray:
    """Draws a translucent stroke into the picture; returns where, (h, w) bool."""
    canvas = Image.new("L", picture.rgb.shape[1::-1])
    ImageDraw.Draw(canvas).line(list(points), fill=255, width=width_px, joint="curve")
    stroke = np.asarray(canvas)
    cover = ndi.gaussian_filter(stroke / 255.0, 1.2)[..., None]
    inked = picture.rgb * (1 - cover + cover * np.array(colour) / 255)
    picture.rgb = inked.astype(np.uint8)
    return stroke > 0


def recall(tissue: Tissue, truth: np.ndarray) -> float:
    """Share of the true tissue that was found."""
    return np.count_nonzero(tissue.mask & truth) / np.count_nonzero(truth)


def background(tissue: Tissue, truth: np.ndarray) -> float:
    """Share of what was found that is no tissue."""
    return np.count_nonzero(tissue.mask & ~truth) / max(1, np.count_nonzero(tissue.mask))
