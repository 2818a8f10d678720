"""Nuclei drawn once as small stamps and pressed into the stain maps at many places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xt_backend.samples.noise import Float, Window

__all__ = ["STAMP_MARGIN_PX", "Nuclei", "StampSet", "make_stamp_sets", "stamp"]

STAMP_MARGIN_PX = 26
"""No stamp reaches further than this from its centre."""

_TURNS = 24


@dataclass(frozen=True)
class _Kind:
    """Look of one kind of nucleus; lengths in px at 0.5 um/px.

    Args:
        length: Full length, smallest and largest.
        aspect: Length over width, smallest and largest.
        density: Amount of haematoxylin inside, smallest and largest.
        chromatin: Strength of the clumps.
        rim: Extra density at the membrane.
        nucleoli: Largest number of nucleoli.
        ragged: Irregularity of the outline.
        variants: Stamps per direction.
    """

    length: tuple[float, float]
    aspect: tuple[float, float]
    density: tuple[float, float]
    chromatin: float
    rim: float
    nucleoli: int
    ragged: float
    variants: int


_KINDS = {
    "spindle": _Kind((20, 36), (2.8, 6.0), (0.6, 1.15), 0.22, 0.10, 0, 0.10, 8),
    "lymphocyte": _Kind((11.5, 15), (1.0, 1.2), (1.15, 1.5), 0.30, 0.15, 0, 0.05, 2),
    "epithelial": _Kind((16, 20), (1.25, 1.7), (0.62, 0.9), 0.24, 0.22, 1, 0.06, 4),
    "tumour": _Kind((19, 30), (1.05, 1.7), (0.95, 1.5), 0.34, 0.22, 2, 0.14, 6),
}


@dataclass(frozen=True)
class StampSet:
    """Stamps of one kind of nucleus.

    Args:
        stamps: Haematoxylin maps (side, side) float32 with odd side; those of one direction
            lie together.
        variants: Number of stamps per direction.
    """

    stamps: tuple[Float, ...]
    variants: int


@dataclass(frozen=True)
class Nuclei:
    """Where nuclei of one kind lie.

    Args:
        x_px: (n,) centres, level-0 px.
        y_px: (n,) centres, level-0 px.
        angle: (n,) direction of the long axis, radians, y down.
        pick: (n,) uniform in [0, 1), chooses the variant.
    """

    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    angle: npt.NDArray[np.float64]
    pick: npt.NDArray[np.float64]


def _drawn(kind: _Kind, angle: float, rng: np.random.Generator) -> Float:
    """One nucleus, lying in direction `angle`."""
    length = rng.uniform(*kind.length)
    width = length / rng.uniform(*kind.aspect)
    half = int(np.ceil(length * 0.5 * (1 + 2 * kind.ragged))) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    # A slight bend for long nuclei.
    across = across + rng.normal(0, 0.12) * along**2 / max(length, 1.0)
    polar = np.arctan2(across * length / width, along)
    outline = np.ones_like(polar)
    for k in (2, 3, 4, 5):
        outline += (
            kind.ragged * rng.normal(0, 0.55) / k**0.5 * np.cos(k * polar + rng.uniform(0, 7))
        )
    radius = np.hypot(along / (length / 2), across / (width / 2)) / outline
    depth = (1 - radius) * width / 2
    inside = np.clip(depth / 1.6 + 0.5, 0, 1)
    clumps = ndimage.gaussian_filter(rng.standard_normal(x.shape), 1.3)
    clumps /= clumps.std() + 1e-6
    density = rng.uniform(*kind.density) * (1 + kind.chromatin * clumps)
    density += kind.rim * np.exp(-(((depth - 1.2) / 1.1) ** 2))
    for _ in range(rng.integers(0, kind.nucleoli + 1)):
        at, off = rng.uniform(-0.25, 0.25, 2) * (length, width)
        spot = ((along - at) ** 2 + (across - off) ** 2) / rng.uniform(1.2, 2.0) ** 2
        density += 0.55 * np.exp(-spot)
    return np.asarray(np.clip(density, 0.15, None) * inside, np.float32)


def make_stamp_sets(rng: np.random.Generator) -> dict[str, StampSet]:
    """Draw the stamps of all kinds of nuclei of one slide."""
    return {
        name: StampSet(
            tuple(
                _drawn(kind, np.pi * turn / _TURNS, rng)
                for turn in range(_TURNS)
                for _ in range(kind.variants)
            ),
            kind.variants,
        )
        for name, kind in _KINDS.items()
    }


def stamp(target: Float, window: Window, stamps: StampSet, nuclei: Nuclei) -> None:
    """Add nuclei to a haematoxylin map.

    Args:
        target: (height, width) float32 of the window, changed in place.
        window: Its place on the slide.
        stamps: What to press in.
        nuclei: Where; those outside the window are cut off at its border.
    """
    turn = np.round(nuclei.angle / np.pi * _TURNS).astype(np.int64) % _TURNS
    which = turn * stamps.variants + (nuclei.pick * stamps.variants).astype(np.int64)
    columns = np.rint(nuclei.x_px).astype(np.int64) - window.x0_px
    rows = np.rint(nuclei.y_px).astype(np.int64) - window.y0_px
    height, width = target.shape
    for index, column, row in zip(which.tolist(), columns.tolist(), rows.tolist(), strict=True):
        pixels = stamps.stamps[index]
        half = pixels.shape[0] // 2
        top, left = row - half, column - half
        bottom, right = row + half + 1, column + half + 1
        if top >= 0 and left >= 0 and bottom <= height and right <= width:
            target[top:bottom, left:right] += pixels
        elif bottom > 0 and right > 0 and top < height and left < width:
            cut_top, cut_left = max(0, -top), max(0, -left)
            target[max(0, top) : bottom, max(0, left) : right] += pixels[
                cut_top : cut_top + min(bottom, height) - max(0, top),
                cut_left : cut_left + min(right, width) - max(0, left),
            ]
