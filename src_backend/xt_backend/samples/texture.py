"""Wrap-around textures of tissue, drawn once per slide and looked up by position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from xt_backend.samples.noise import Float, Window, periodic_noise

__all__ = ["FOAM_SCALE", "PERIOD_PX", "Textures", "make_textures"]

PERIOD_PX = 1024
FOAM_SCALE = 2
"""The foam is smooth, so it is held at half the resolution."""

_GRAIN_PERIOD_PX = 509
_SENSOR_PERIOD_PX = 641
_FAT_CELL_PX = 104
_ANGLE_STEP_PX = 4


@dataclass(frozen=True)
class Textures:
    """All textures of one slide.

    Args:
        dense: (period, period) float32, collagen in wavy bundles, 0 (cleft) to 1.
        loose: (period, period) float32, thin strands with much space between.
        angle: Direction of the fibres in radians, every 4 px; y points down.
        foam: (period/2, period/2) float32, distance to the next fat cell's wall, level-0 px.
        grain: Fine granules of cytoplasm, zero mean, unit variance.
        sensor: (period, period, 3) float32 camera noise, unit variance.
    """

    dense: Float
    loose: Float
    angle: Float
    foam: Float
    grain: Float
    sensor: Float

    def fibre_angle(
        self, x_px: npt.NDArray[np.floating], y_px: npt.NDArray[np.floating]
    ) -> npt.NDArray[np.float64]:
        """Direction of the fibres at points (n,) in level-0 px."""
        side = self.angle.shape[0]
        column = np.floor_divide(x_px, _ANGLE_STEP_PX).astype(np.int64) % side
        row = np.floor_divide(y_px, _ANGLE_STEP_PX).astype(np.int64) % side
        return np.asarray(self.angle[row, column], np.float64)


def wrapped(texture: Float, window: Window, shift_px: tuple[int, int] = (0, 0)) -> Float:
    """The window's part of a wrap-around texture, (height, width, ...)."""
    side = texture.shape[0]
    rows = (np.arange(window.y0_px, window.y0_px + window.height_px) + shift_px[1]) % side
    columns = (np.arange(window.x0_px, window.x0_px + window.width_px) + shift_px[0]) % side
    return np.asarray(texture[rows][:, columns], np.float32)


def warped(texture: Float, x_px: Float, y_px: Float, scale: int = 1) -> Float:
    """Bilinear look-up in a wrap-around texture at (height, width) level-0 px positions."""
    side = texture.shape[0]
    x = x_px * np.float32(1 / scale) if scale != 1 else x_px
    y = y_px * np.float32(1 / scale) if scale != 1 else y_px
    column_f, row_f = np.floor(x), np.floor(y)
    tx, ty = x - column_f, y - row_f
    # The sides are powers of two, so this is the modulo, also below zero.
    column = column_f.astype(np.int32) & (side - 1)
    row = row_f.astype(np.int32) & (side - 1)
    # One wrapped row and column more, so that the neighbour needs no second modulo.
    padded = np.pad(texture, ((0, 1), (0, 1)), mode="wrap").ravel()
    first = row * (side + 1) + column
    top = padded[first]
    top += tx * (padded[first + 1] - top)
    first += side + 1
    low = padded[first]
    low += tx * (padded[first + 1] - low)
    return np.asarray(top + ty * (low - top), np.float32)


def _drawn_along(noise: Float, cos: Float, sin: Float, steps: tuple[int, ...]) -> Float:
    """Noise averaged along the direction field; the steps add up to its reach each way."""
    side = noise.shape[0]
    grid_y, grid_x = np.mgrid[0:side, 0:side].astype(np.float32)
    out = noise
    for step in steps:
        ahead = warped(out, grid_x + step * cos, grid_y + step * sin)
        behind = warped(out, grid_x - step * cos, grid_y - step * sin)
        out = (ahead + behind) * np.float32(0.5)
    return np.asarray(out / out.std(), np.float32)


def _ranked(field: Float) -> Float:
    """The field with its values spread evenly over 0 to 1."""
    cuts = np.quantile(field[::4, ::4], np.linspace(0, 1, 65))
    low, high = float(cuts[0]), float(cuts[-1])
    table = np.interp(np.linspace(low, high, 4096), cuts, np.linspace(0, 1, 65))
    index = ((field - low) * np.float32(4095 / (high - low))).astype(np.int32)
    return table.astype(np.float32)[np.clip(index, 0, 4095)]


def _fibres(rng: np.random.Generator) -> tuple[Float, Float, Float]:
    """Dense and loose collagen and the field of directions that both follow."""
    slow = periodic_noise(rng, PERIOD_PX, 420.0, 0.4) + 1j * periodic_noise(
        rng, PERIOD_PX, 420.0, 0.4
    )
    wave = periodic_noise(rng, PERIOD_PX, 75.0, 0.35)
    angle = (0.5 * np.angle(slow) + 0.33 * wave).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    bundles = _drawn_along(periodic_noise(rng, PERIOD_PX, 21.0, 0.5), cos, sin, (4, 8, 16))
    fibrils = _drawn_along(periodic_noise(rng, PERIOD_PX, 6.0, 0.5), cos, sin, (1, 2, 4, 8))
    strands = _drawn_along(periodic_noise(rng, PERIOD_PX, 16.0, 0.8), cos, sin, (1, 2, 4, 8, 16))
    dense = _ranked(bundles + np.float32(0.55) * fibrils)
    loose = _ranked(strands + np.float32(0.5) * fibrils)
    return dense, loose, angle[::_ANGLE_STEP_PX, ::_ANGLE_STEP_PX].copy()


def _foam(rng: np.random.Generator) -> Float:
    """Distance to the wall between fat cells, rounded in the corners."""
    cells = round(PERIOD_PX / _FAT_CELL_PX)
    corner = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2)
    seeds = (corner + 0.5 + 0.75 * (rng.random((cells * cells, 2)) - 0.5)) * (PERIOD_PX / cells)
    seeds %= PERIOD_PX
    side = PERIOD_PX // FOAM_SCALE
    row, column = np.mgrid[0:side, 0:side]
    points = np.stack([column.ravel(), row.ravel()], -1) * float(FOAM_SCALE)
    distance, index = spatial.cKDTree(seeds, boxsize=PERIOD_PX).query(points, k=2)
    apart = seeds[index[:, 1]] - seeds[index[:, 0]]
    apart -= PERIOD_PX * np.round(apart / PERIOD_PX)
    wall = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.hypot(*apart.T))
    return np.asarray(
        ndimage.gaussian_filter(wall.reshape(side, side), 3.0, mode="wrap"), np.float32
    )


def make_textures(rng: np.random.Generator) -> Textures:
    """Draw the textures of one slide (about half a second)."""
    dense, loose, angle = _fibres(rng)
    return Textures(
        dense=dense,
        loose=loose,
        angle=angle,
        foam=_foam(rng),
        grain=periodic_noise(rng, _GRAIN_PERIOD_PX, 5.0, 0.7),
        sensor=rng.standard_normal((_SENSOR_PERIOD_PX, _SENSOR_PERIOD_PX, 3), np.float32),
    )
