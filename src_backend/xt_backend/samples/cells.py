"""Which nuclei lie where in a window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from xt_backend.samples.glands import gland_nuclei
from xt_backend.samples.noise import Float, Window, scatter, value_noise
from xt_backend.samples.nuclei import Nuclei
from xt_backend.samples.texture import Textures
from xt_backend.samples.tissue import BETWEEN_SHIFT_PX, Nearby, Tissue

__all__ = ["cells_of"]

_SPINDLE_GRID_PX = 17
_LYMPHOCYTE_GRID_PX = 14
_TUMOUR_GRID_PX = 21

Points = npt.NDArray[np.float64]


def cells_of(
    near: Nearby, tissue: Tissue, textures: Textures, salt: int, window: Window
) -> Iterator[tuple[str, Nuclei]]:
    """All nuclei whose centres lie in the window, by kind.

    Those of the stroma are drawn before and without regard to the nests; a nest only takes
    away what lies under it.

    Args:
        near: What can touch the window.
        tissue: Maps of the window.
        textures: For the direction of the fibres.
        salt: Of the slide.
        window: Where.
    """
    x, y, draws = scatter(salt + 30, _SPINDLE_GRID_PX, window)
    solid, lobule, nest, gland = _looked_up(tissue, window, x, y)
    chance = solid * (0.10 + lobule * 0.26)
    keep = (draws[0] < chance) & (nest < -3) & (gland < -4)
    x, y, draws = x[keep], y[keep], draws[:, keep]
    angle = _along_fibres(tissue, textures, window, x, y) + 0.5 * (draws[1] - 0.5)
    yield "spindle", Nuclei(x, y, angle, draws[2])

    x, y, draws = scatter(salt + 40, _LYMPHOCYTE_GRID_PX, window)
    solid, lobule, nest, gland = _looked_up(tissue, window, x, y)
    crowd = _crowds(salt, window, x, y)
    chance = solid * (0.012 + lobule * (0.03 + 0.34 * crowd))
    keep = (draws[0] < chance) & (nest < -3) & (gland < -5)
    x, y, draws = x[keep], y[keep], draws[:, keep]
    yield "lymphocyte", Nuclei(x, y, draws[1] * np.pi, draws[2])

    for gland_ in near.glands:
        ring = gland_nuclei(gland_)
        inside = _within(window, ring.x_px, ring.y_px)
        x, y = ring.x_px[inside], ring.y_px[inside]
        keep = _looked_up(tissue, window, x, y)[2] < -3
        yield (
            "epithelial",
            Nuclei(x[keep], y[keep], ring.angle[inside][keep], ring.pick[inside][keep]),
        )

    if near.nests:
        x, y, draws = scatter(salt + 50, _TUMOUR_GRID_PX, window, jitter=0.6)
        keep = _looked_up(tissue, window, x, y)[2] > 5
        x, y, draws = x[keep], y[keep], draws[:, keep]
        yield "tumour", Nuclei(x, y, draws[1] * np.pi, draws[2])


def _along_fibres(
    tissue: Tissue, textures: Textures, window: Window, x: Points, y: Points
) -> Points:
    """Direction of the fibres at points inside the window."""
    row = np.floor(y).astype(np.int64) - window.y0_px
    column = np.floor(x).astype(np.int64) - window.x0_px
    between = tissue.lobule[row, column] < 0.5
    return textures.fibre_angle(
        tissue.bent_x[row, column] + between * BETWEEN_SHIFT_PX[0],
        tissue.bent_y[row, column] + between * BETWEEN_SHIFT_PX[1],
    )


def _within(window: Window, x: Points, y: Points) -> npt.NDArray[np.bool_]:
    column, row = np.floor(x) - window.x0_px, np.floor(y) - window.y0_px
    return np.asarray(
        (column >= 0) & (row >= 0) & (column < window.width_px) & (row < window.height_px)
    )


def _looked_up(
    tissue: Tissue, window: Window, x: Points, y: Points
) -> tuple[Float, Float, Float, Float]:
    """(solid, lobule, nest, gland) at points inside the window."""
    row = np.floor(y).astype(np.int64) - window.y0_px
    column = np.floor(x).astype(np.int64) - window.x0_px
    return (
        tissue.solid[row, column],
        tissue.lobule[row, column],
        tissue.nest[row, column],
        tissue.gland[row, column],
    )


def _crowds(salt: int, window: Window, x: Points, y: Points) -> Points:
    """0 to 1, high in the few places where lymphocytes gather."""
    field = value_noise(salt + 41, 64, window)
    row = np.floor(y).astype(np.int64) - window.y0_px
    column = np.floor(x).astype(np.int64) - window.x0_px
    return np.clip((field[row, column].astype(np.float64) - 1.0) / 0.9, 0, 1)
