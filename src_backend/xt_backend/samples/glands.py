"""Benign glands: a ring of cells around a lumen, in every lobule and here and there between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from xt_backend.samples.noise import Float, Window
from xt_backend.samples.nuclei import Nuclei

__all__ = ["SURROUND_PX", "Gland", "gland_depth", "gland_nuclei", "place_glands"]

SURROUND_PX = 50
"""How far around a gland its depth map reaches."""

_ACINUS_RADIUS_PX = (30.0, 66.0)
_DUCT_RADIUS_PX = (48.0, 95.0)
_AREA_PER_ACINUS_PX2 = 44_000.0
_AREA_PER_DUCT_PX2 = 700_000.0


@dataclass(frozen=True)
class Gland:
    """One gland.

    Args:
        x_px: Centre, level-0 px.
        y_px: Centre, level-0 px.
        radius_px: Mean outer radius.
        wall_px: Thickness of the epithelium.
        waves: (order, amplitude, phase) of the outline's irregularity.
        salt: Seed of its nuclei.
    """

    x_px: float
    y_px: float
    radius_px: float
    wall_px: float
    waves: tuple[tuple[int, float, float], ...]
    salt: int

    @property
    def reach_px(self) -> float:
        """Nothing of the gland is further from its centre."""
        return self.radius_px * (1 + sum(abs(amplitude) for _, amplitude, _ in self.waves))

    def radius_at(self, angle: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Outer radius in px in the given directions."""
        ring = np.ones_like(angle)
        for order, amplitude, phase in self.waves:
            ring += amplitude * np.cos(order * angle + phase)
        return np.asarray(ring * self.radius_px)


def _drawn(rng: np.random.Generator, x: float, y: float, radius: float) -> Gland:
    waves = tuple(
        (k, float(rng.normal(0, 0.11) / k**0.4), float(rng.uniform(0, 2 * np.pi)))
        for k in (2, 3, 4, 5)
    )
    wall = float(min(rng.uniform(22, 32), 0.72 * radius))
    return Gland(x, y, radius, wall, waves, int(rng.integers(2**31)))


def _packed(
    rng: np.random.Generator,
    room: BaseGeometry,
    count: int,
    radius: tuple[float, float],
    gap: float,
) -> list[Gland]:
    """Up to `count` glands inside `room`, at least about `gap` px apart."""
    taken: list[Gland] = []
    if room.is_empty:
        return taken
    shapely.prepare(room)
    circles = np.empty((count, 3))
    x0, y0, x1, y1 = room.bounds
    for x, y in rng.uniform((x0, y0), (x1, y1), (count * 12, 2)).tolist():
        gland = _drawn(rng, x, y, float(rng.uniform(*radius)))
        near = circles[: len(taken)]
        apart = np.hypot(near[:, 0] - x, near[:, 1] - y) - near[:, 2] - gland.reach_px
        if (apart < gap).any() or not shapely.contains_xy(room, x, y):
            continue
        circles[len(taken)] = x, y, gland.reach_px
        taken.append(gland)
        if len(taken) == count:
            break
    return taken


def place_glands(
    rng: np.random.Generator, lobules: Sequence[Polygon], between: BaseGeometry
) -> tuple[Gland, ...]:
    """Glands of one slide.

    Args:
        rng: Source; it knows nothing of the nests.
        lobules: Outlines; each gets several small glands in proportion to its area.
        between: Tissue between them; gets a few larger ducts.
    """
    glands: list[Gland] = []
    for lobule in lobules:
        count = max(3, round(lobule.area / _AREA_PER_ACINUS_PX2 * rng.uniform(0.8, 1.2)))
        glands += _packed(rng, lobule.buffer(-80), count, _ACINUS_RADIUS_PX, 14.0)
    for part in shapely.get_parts(between):
        count = int(rng.poisson(part.area / _AREA_PER_DUCT_PX2))
        glands += _packed(rng, part.buffer(-40), count, _DUCT_RADIUS_PX, 150.0)
    return tuple(glands)


def gland_depth(glands: Sequence[Gland], window: Window) -> tuple[Float, Float]:
    """Depth maps of glands.

    Args:
        glands: Those that may touch the window.
        window: Where.

    Returns:
        Two (height, width) float32 maps in px: distance inwards from the outer border
        (negative outside, not below -50), and the same from the border of the lumen.
    """
    outer = np.full(window.shape, -SURROUND_PX, np.float32)
    inner = np.full(window.shape, -SURROUND_PX, np.float32)
    for gland in glands:
        reach = int(gland.reach_px) + SURROUND_PX + 1
        left = max(int(gland.x_px) - reach - window.x0_px, 0)
        right = min(int(gland.x_px) + reach + 1 - window.x0_px, window.width_px)
        top = max(int(gland.y_px) - reach - window.y0_px, 0)
        bottom = min(int(gland.y_px) + reach + 1 - window.y0_px, window.height_px)
        if left >= right or top >= bottom:
            continue
        dx = (np.arange(left, right) + window.x0_px - gland.x_px).astype(np.float32)[None, :]
        dy = (np.arange(top, bottom) + window.y0_px - gland.y_px).astype(np.float32)[:, None]
        depth = (gland.radius_at(np.arctan2(dy, dx)) - np.hypot(dx, dy)).astype(np.float32)
        place = (slice(top, bottom), slice(left, right))
        np.maximum(outer[place], depth, out=outer[place])
        np.maximum(inner[place], depth - np.float32(gland.wall_px), out=inner[place])
    return outer, inner


def gland_nuclei(gland: Gland) -> Nuclei:
    """The ring of nuclei of one gland, standing upright on its border."""
    rng = np.random.default_rng(gland.salt)
    rows = []
    for level, spacing in ((0.36, 13.5), (0.68, 40.0)):
        count = max(5, round(2 * np.pi * (gland.radius_px - level * gland.wall_px) / spacing))
        angle = (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * 2 * np.pi / count
        depth = gland.wall_px * (level + rng.uniform(-0.1, 0.1, count))
        rows.append(np.stack([angle, gland.radius_at(angle) - depth]))
    angle, radius = np.concatenate(rows, axis=1)
    return Nuclei(
        x_px=gland.x_px + radius * np.cos(angle),
        y_px=gland.y_px + radius * np.sin(angle),
        angle=angle + rng.normal(0, 0.25, angle.shape),
        pick=rng.random(angle.shape),
    )
