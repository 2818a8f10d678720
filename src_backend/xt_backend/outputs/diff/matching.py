"""Which region of one result lies where one of the other does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.slides.lattice import Lattice
from xt_backend.store.score_map import ScoreMap

__all__ = ["Matching", "match_regions", "same_extent"]

_SAME_SIZE = 1e-6
_SAME_EXTENT = 0.1

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of regions that have a class in both results.

    Attributes:
        rows_a: (n,) rows of the first result.
        rows_b: (n,) rows of the second; where regions differ in size, those of the result with the
            larger ones come up several times.
        only_a: Rows of the first that have a class, and none of the second beside them.
        only_b: The same of the second.
        a_is_finer: Each region of the first was looked up in the second; else the other way round.
        same_size: Regions and their steps are equal, in um.
    """

    rows_a: Rows
    rows_b: Rows
    only_a: Rows
    only_b: Rows
    a_is_finer: bool
    same_size: bool


def match_regions(a: ScoreMap, b: ScoreMap) -> Matching:
    """Match by place: um from the corner of what was scanned.

    Each region of the result with the smaller steps is matched with the region of the other whose
    middle is nearest to its own.
    """
    sizes = [_sizes_um(score_map.lattice) for score_map in (a, b)]
    same_size = all(
        math.isclose(one, other, rel_tol=_SAME_SIZE) for one, other in zip(*sizes, strict=True)
    )
    a_is_finer = same_size or sizes[0][1] <= sizes[1][1]
    fine, coarse = (a, b) if a_is_finer else (b, a)
    rows_fine = np.flatnonzero(fine.labels() >= 0)
    has_class = coarse.labels() >= 0
    found = _nearest(coarse, fine.lattice.centres_um(fine.cells[rows_fine]))
    found[found >= 0] = np.where(has_class[found[found >= 0]], found[found >= 0], -1)
    matched = found >= 0
    only_fine, rows_coarse = rows_fine[~matched], found[matched]
    only_coarse = np.setdiff1d(np.flatnonzero(has_class), rows_coarse)
    rows_fine = rows_fine[matched]
    if a_is_finer:
        return Matching(rows_fine, rows_coarse, only_fine, only_coarse, True, same_size)
    return Matching(rows_coarse, rows_fine, only_coarse, only_fine, False, same_size)


def same_extent(a: ScoreMap, b: ScoreMap) -> bool:
    """Whether what was scanned has about the same size, so that places may be compared."""
    return all(
        math.isclose(one, other, rel_tol=_SAME_EXTENT)
        for one, other in zip(_extent_um(a.lattice), _extent_um(b.lattice), strict=True)
    )


def _sizes_um(lattice: Lattice) -> tuple[float, float]:
    return lattice.region_px * lattice.model_mpp, lattice.stride_px * lattice.model_mpp


def _extent_um(lattice: Lattice) -> tuple[float, float]:
    width, height = lattice.extent_px
    return width * lattice.slide_mpp[0], height * lattice.slide_mpp[1]


def _nearest(score_map: ScoreMap, places_um: npt.NDArray[np.float64]) -> Rows:
    """Row of the region whose middle is nearest to each place, -1 where it was not selected."""
    lattice = score_map.lattice
    steps = (places_um / lattice.model_mpp - lattice.region_px / 2) / lattice.stride_px
    # Of two that are as near, the first.
    cells = np.ceil(steps - 0.5 - 1e-9).astype(np.int64)
    last = np.array([lattice.n_cols - 1, lattice.n_rows - 1])
    inside = ((cells >= -1) & (cells <= last + 1)).all(axis=1)
    # A place in the outer half of the last region is nearest to one that does not exist.
    cells = cells.clip(0, last)
    near = np.abs(lattice.centres_um(cells) - places_um).max(axis=1, initial=0.0)
    half_um = lattice.region_px * lattice.model_mpp / 2
    grid = score_map.grid(np.arange(len(score_map)), fill=-1)
    rows = grid[cells[:, 1], cells[:, 0]]
    found: Rows = np.where(inside & (near <= half_um + 1e-6), rows, -1)
    return found
