"""What regions look like at low resolution, in a few numbers each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RegionStatus
from xt_backend.slides import Lattice, Reader

from ..preparation import Prepared
from ..stages import Stages

__all__ = ["LOW_MPP", "describe", "low_lattice"]

LOW_MPP = 8.0
"""um/px at which regions are looked at, about."""
_LEAST_PX = 8
_MOST_PX = 64
_READ = 64
_PERCENTILES = (5, 25, 75, 95)
_DENSITY = (-np.log10(np.maximum(np.arange(256), 1) / 255)).astype(np.float32)

Floats = npt.NDArray[np.float32]


def low_lattice(lattice: Lattice) -> Lattice:
    """The same places at low resolution.

    They begin where they do at the model's resolution, and end within half a pixel of it. A region
    has about 8 to 64 px there, more only where its stride is less than one of them. Rounding may
    cost columns and rows at the far edge, which show next to nothing of the slide.

    Args:
        lattice: At the model's resolution.
    """
    wanted = lattice.region_px * lattice.model_mpp / LOW_MPP
    wanted = min(max(wanted, _LEAST_PX), _MOST_PX, lattice.region_px)
    overlap = lattice.region_px / lattice.stride_px
    stride = max(1, round(wanted / overlap))
    return Lattice(
        lattice.origin_px,
        lattice.extent_px,
        max(stride, round(stride * overlap)),
        stride,
        lattice.stride_px * lattice.model_mpp / stride,
        lattice.slide_mpp,
    )


def describe(
    prepared: Prepared,
    workers: int,
    stages: Stages,
    cancelled: Callable[[], bool] = lambda: False,
) -> Floats:
    """Describe all selected regions: colour, texture, and the same of those around.

    Memory grows by about 300 bytes a region; pixels are dropped at once.

    Args:
        prepared: The slide with its regions.
        workers: Reader threads.
        stages: Told how long reading took.
        cancelled: Asked after every batch; the rest is then left as it is.

    Returns:
        (n, d) float32, NaN in rows that cannot be told.
    """
    low = low_lattice(prepared.lattice)
    there = np.flatnonzero((prepared.cells < (low.n_cols, low.n_rows)).all(axis=1))
    own: Floats | None = None
    reader = Reader(prepared.slide, low, prepared.cells[there], batch_size=_READ, threads=workers)
    try:
        for batch in reader:
            found = _look(batch.pixels)
            found[batch.status == RegionStatus.READ_ERROR] = np.nan
            if own is None:
                own = np.full((len(prepared.cells), found.shape[1]), np.nan, np.float32)
            own[there[batch.rows]] = found
            if cancelled():
                break
    finally:
        reader.close()
        stages.add(reader.seconds())
    if own is None:
        return np.empty((0, 0), np.float32)
    around = np.concatenate([_around(part, prepared) for part in np.array_split(own, 4, axis=1)], 1)
    return np.concatenate([own, around], axis=1)


def _look(pixels: npt.NDArray[np.uint8]) -> Floats:
    """(n, d) of (n, R, R, 3): optical density, its spread and its unevenness."""
    density = _DENSITY[pixels]
    n, side = density.shape[:2]
    flat = density.reshape(n, side * side, 3)
    steps = [np.abs(np.diff(density, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    redder = flat[..., 0] - flat[..., 1]
    numbers = [
        flat.mean(axis=1),
        flat.std(axis=1),
        *np.percentile(flat, _PERCENTILES, axis=1),
        sum(steps),
        np.stack([redder.std(axis=1), *np.percentile(redder, (10, 90), axis=1)], axis=1),
    ]
    return np.concatenate(numbers, axis=1, dtype=np.float32)


def _around(values: Floats, prepared: Prepared) -> Floats:
    """(n, d) means over the up to eight selected neighbours of each region, else its own."""
    lattice, cells = prepared.lattice, prepared.cells
    places = np.full((lattice.n_rows + 2, lattice.n_cols + 2), -1, np.int32)
    places[cells[:, 1] + 1, cells[:, 0] + 1] = np.arange(len(cells))
    total, count = np.zeros_like(values), np.zeros((len(values), 1), np.float32)
    for row, col in _steps():
        other = places[cells[:, 1] + 1 + row, cells[:, 0] + 1 + col]
        told = (other >= 0) & ~np.isnan(values[other]).any(axis=1)
        total[told] += values[other[told]]
        count[told] += 1
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), values), np.float32)


def _steps() -> Iterator[tuple[int, int]]:
    return ((row, col) for row in (-1, 0, 1) for col in (-1, 0, 1) if row or col)
