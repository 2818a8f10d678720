"""The tissue without its nuclei: how much eosin and haematoxylin lies where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import Polygon

from xt_backend.samples.glands import SURROUND_PX, Gland, gland_depth
from xt_backend.samples.layout import Layout
from xt_backend.samples.noise import Float, Window, smoothstep, value_noise
from xt_backend.samples.outlines import FAR_PX, signed_distance
from xt_backend.samples.texture import FOAM_SCALE, Textures, warped, wrapped

__all__ = ["BETWEEN_SHIFT_PX", "LayoutIndex", "Nearby", "Tissue", "paint_tissue"]


BETWEEN_SHIFT_PX = (311, 173)
"""Where the fibres between the lobules are looked up, against those of the lobules."""


@dataclass(frozen=True)
class Nearby:
    """The parts of a layout that can touch one window.

    Args:
        tissue: The section, or nothing on bare glass.
        lobules: Their outlines.
        nests: Their outlines.
        glands: Glands.
    """

    tissue: tuple[Polygon, ...]
    lobules: tuple[Polygon, ...]
    nests: tuple[Polygon, ...]
    glands: tuple[Gland, ...]


class LayoutIndex:
    """Finds the parts of a layout near a window."""

    def __init__(self, layout: Layout) -> None:
        self._tissue = layout.tissue
        shapely.prepare(self._tissue)
        self._lobules = tuple(lobule.outline for lobule in layout.lobules)
        self._nests = layout.nests
        self._glands = layout.glands
        self._reach = np.array([g.reach_px + SURROUND_PX for g in self._glands])
        self._centres = np.array([(g.x_px, g.y_px) for g in self._glands]).reshape(-1, 2)

    def near(self, window: Window) -> Nearby:
        """What can touch the window."""
        x0, y0 = window.x0_px - FAR_PX, window.y0_px - FAR_PX
        x1 = window.x0_px + window.width_px + FAR_PX
        y1 = window.y0_px + window.height_px + FAR_PX
        box = shapely.box(x0, y0, x1, y1)
        low, high = self._centres - self._reach[:, None], self._centres + self._reach[:, None]
        hit = ((high > (x0, y0)) & (low < (x1, y1))).all(axis=1)
        return Nearby(
            _touching((self._tissue,), box),
            _touching(self._lobules, box),
            _touching(self._nests, box),
            tuple(self._glands[k] for k in np.flatnonzero(hit)),
        )


def _touching(outlines: Sequence[Polygon], box: Polygon) -> tuple[Polygon, ...]:
    return tuple(outline for outline in outlines if shapely.intersects(outline, box))


@dataclass(frozen=True)
class Tissue:
    """What lies in one window; all maps are (height, width) float32.

    Args:
        eosin: Amount.
        haematoxylin: Amount, without nuclei.
        solid: 1 where there is matter that can hold a nucleus, 0 on glass and in vacuoles.
        lobule: 1 inside lobules.
        nest: Distance to the nest's border in px, positive inside.
        gland: Distance to the gland's border in px, positive inside.
        bent_x: Level-0 px position at which the fibres were looked up.
        bent_y: The same.
    """

    eosin: Float
    haematoxylin: Float
    solid: Float
    lobule: Float
    nest: Float
    gland: Float
    bent_x: Float
    bent_y: Float


def paint_tissue(near: Nearby, textures: Textures, salt: int, window: Window) -> Tissue:
    """Paint everything but the nuclei.

    Args:
        near: What can touch the window.
        textures: Of the slide.
        salt: Of the slide.
        window: Where.
    """
    fine = value_noise(salt + 10, 14, window)
    grain = wrapped(textures.grain, window)
    edge = signed_distance(near.tissue, window) + 5 * fine
    lobule_px = signed_distance(near.lobules, window) + 6 * value_noise(salt + 11, 34, window)
    lobule = smoothstep(-8.0, 12.0, lobule_px)
    gland, lumen = gland_depth(near.glands, window)
    x, y = _bent(salt, window)

    if lobule.min() < 1:
        border = np.maximum(lobule_px, gland)
        eosin, haematoxylin, solid = _between(textures, salt, window, x, y, border, grain)
    else:
        eosin, haematoxylin, solid = (np.zeros(window.shape, np.float32) for _ in range(3))
    if lobule.max() > 0:
        stroma = _stroma(textures, salt, window, x, y, grain)
        for into, part in zip((eosin, haematoxylin, solid), stroma, strict=True):
            into += lobule * (part - into)
    if near.glands:
        _paint_glands(eosin, haematoxylin, solid, gland, lumen, grain, fine)
    nest = np.full(window.shape, -FAR_PX, np.float32)
    if near.nests:
        nest = signed_distance(near.nests, window)
        _paint_nests(eosin, haematoxylin, solid, nest, grain, fine)
    present = smoothstep(-1.5, 2.5, edge)
    rim = 1 + np.float32(0.25) * np.exp(-np.square((edge - 4) / 5))
    eosin *= present * rim
    haematoxylin *= present
    solid *= present
    return Tissue(eosin, haematoxylin, solid, lobule, nest, gland, x, y)


def _bent(salt: int, window: Window) -> tuple[Float, Float]:
    """Positions at which to look textures up; bending them hides that these repeat."""
    x = np.arange(window.x0_px, window.x0_px + window.width_px, dtype=np.float32)
    y = np.arange(window.y0_px, window.y0_px + window.height_px, dtype=np.float32)
    dx = np.float32(34) * value_noise(salt + 12, 260, window)
    dy = np.float32(34) * value_noise(salt + 13, 260, window)
    # Kept small so that float32 still resolves fractions of a pixel on large slides.
    return x % 65536 + dx, y[:, None] % 65536 + dy


def _stroma(
    textures: Textures, salt: int, window: Window, x: Float, y: Float, grain: Float
) -> tuple[Float, Float, Float]:
    """Intralobular stroma: wavy collagen with clefts. Knows nothing of nests."""
    fibre = warped(textures.dense, x, y)
    open_ = value_noise(salt + 20, 60, window)
    cleft = smoothstep(0.04, 0.26, fibre - np.float32(0.045) * open_)
    eosin = (0.24 + 0.52 * fibre + 0.045 * grain) * (0.16 + 0.84 * cleft)
    haematoxylin = (0.055 + 0.05 * fibre) * cleft + np.float32(0.012) * grain
    return (
        np.asarray(eosin, np.float32),
        np.asarray(np.maximum(haematoxylin, 0), np.float32),
        np.asarray(0.4 + 0.6 * cleft, np.float32),
    )


def _between(
    textures: Textures, salt: int, window: Window, x: Float, y: Float, border: Float, grain: Float
) -> tuple[Float, Float, Float]:
    """Between the lobules: fat cells and loose collagen."""
    strand = warped(textures.loose, x + BETWEEN_SHIFT_PX[0], y + BETWEEN_SHIFT_PX[1])
    wall = warped(textures.foam, x, y, FOAM_SCALE)
    lean = value_noise(salt + 21, 190, window)
    # The thickness of the walls decides: thin in fat, thicker than the cells in septa and
    # close to lobules and ducts.
    uneven = value_noise(salt + 22, 24, window)
    thick = 2.7 + 60 * smoothstep(0.1, 1.1, lean) + 34 * smoothstep(-52.0, -4.0, border)
    thick += 0.8 * uneven
    vacuole = smoothstep(0.0, 3.0, wall - thick)
    septum = smoothstep(4.0, 14.0, thick)
    loose = value_noise(salt + 23, 80, window)
    body = smoothstep(0.02, 0.75, strand - 0.12 * loose - 0.05 * uneven)
    fibrous = (0.13 + 0.40 * body) * septum + (1 - septum) * 0.55
    eosin = (fibrous + 0.03 * grain) * (1 - vacuole) + 0.028 * vacuole
    haematoxylin = 0.045 * (1 - vacuole) * (0.4 + 0.6 * body)
    solid = (1 - vacuole) * (1 - septum + septum * (0.15 + 0.85 * body))
    return (
        np.asarray(eosin, np.float32),
        np.asarray(haematoxylin, np.float32),
        np.asarray(solid, np.float32),
    )


def _paint_glands(
    eosin: Float,
    haematoxylin: Float,
    solid: Float,
    gland: Float,
    lumen: Float,
    grain: Float,
    fine: Float,
) -> None:
    """Epithelium, basement membrane and lumen, over what lies there."""
    wall = smoothstep(-1.2, 1.2, gland)
    hollow = smoothstep(-2.0, 2.0, lumen + 2.2 * fine + 0.7 * grain)
    secret = 0.05 + 0.05 * np.maximum(fine, 0)
    inside = (0.47 + 0.05 * grain + 0.05 * fine) * (1 - hollow) + secret * hollow
    membrane = np.float32(0.22) * np.exp(-np.square((gland + 2.0) / 1.8))
    eosin += wall * (inside - eosin) + membrane
    haematoxylin += wall * ((0.20 + 0.03 * grain) * (1 - hollow) - haematoxylin)
    solid *= 1 - wall


def _paint_nests(
    eosin: Float, haematoxylin: Float, solid: Float, nest: Float, grain: Float, fine: Float
) -> None:
    """Cytoplasm of the tumour cells and a cleft at the border, over what lies there."""
    sheet = smoothstep(-1.5, 1.5, nest + fine)
    cleft = smoothstep(1.0, 4.0, nest + 2.0 * fine)
    eosin += sheet * ((0.50 + 0.06 * grain + 0.05 * fine) * (0.25 + 0.75 * cleft) - eosin)
    haematoxylin += sheet * ((0.26 + 0.04 * grain) * cleft - haematoxylin)
    solid *= 1 - sheet
