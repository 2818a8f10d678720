"""From heat maps to points: local maxima, and one point per object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from xt_backend.keys import DENSE_STRIDE
from xt_backend.model import DetectionInfo
from xt_backend.slides import Lattice
from xt_backend.store import Points

__all__ = ["each_once", "least_radius_um", "points_of", "suppress"]

_LEAST_RADIUS_PX = 1.5
"""Heat map px. An object on the border of two regions has a peak on either side of it."""

_EARLIER = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
_LATER = ((0, 1), (1, -1), (1, 0), (1, 1))


def least_radius_um(lattice: Lattice) -> float:
    """The smallest radius within which two peaks of a heat map are one object, um."""
    return _LEAST_RADIUS_PX * DENSE_STRIDE * lattice.model_mpp


def points_of(
    heat: npt.NDArray[np.float32],
    thresholds: Sequence[float],
    lattice: Lattice,
    cells: npt.NDArray[np.int32],
) -> Points:
    """The local maxima of the heat maps of regions that reach their kind's threshold.

    Nothing is suppressed yet: that takes the neighbouring regions too, see `suppress`.

    Args:
        heat: (n, K, h, w) float32, 0 to 1; NaN is no peak.
        thresholds: Of each of the K kinds.
        lattice: Of the slide.
        cells: (n, 2) int (col, row).

    Returns:
        Points at the middles of heat map pixels, those beyond the slide's bounds left out.
    """
    least = np.asarray(thresholds, np.float32)[None, :, None, None]
    high = np.where(heat >= least, heat, -np.inf).astype(np.float32)
    index, kind, row, col = np.nonzero(_is_peak(high))
    x0_px, y0_px = lattice.boxes(cells)[index, :2].T
    ratio_x, ratio_y = (lattice.model_mpp / mpp for mpp in lattice.slide_mpp)
    points = Points(
        x0_px + (col + 0.5) * DENSE_STRIDE * ratio_x,
        y0_px + (row + 0.5) * DENSE_STRIDE * ratio_y,
        kind.astype(np.int32),
        heat[index, kind, row, col],
    )
    right_px, bottom_px = np.add(lattice.origin_px, lattice.extent_px)
    return points.take((points.x_px < right_px) & (points.y_px < bottom_px))


def _is_peak(high: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Where a value is above its 8 neighbours; of a plateau the first place in raster order."""
    height, width = high.shape[2:]
    padded = np.pad(high, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)

    def neighbour(dy: int, dx: int) -> npt.NDArray[np.float32]:
        return padded[:, :, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    found: npt.NDArray[np.bool_] = np.isfinite(high)
    for step in _EARLIER:
        found &= high > neighbour(*step)
    for step in _LATER:
        found &= high >= neighbour(*step)
    return found


def each_once(points: Points, detection: DetectionInfo, lattice: Lattice) -> Points:
    """One point per object of a model: `suppress` within the radius of its objects.

    Args:
        points: Of the whole slide, or a part of it.
        detection: What the model says of its objects.
        lattice: Of the slide.
    """
    radius_um = max(detection.peak_radius_um, least_radius_um(lattice))
    return suppress(points, radius_um, lattice.slide_mpp)


def suppress(points: Points, radius_um: float, slide_mpp: tuple[float, float]) -> Points:
    """Greedy non-maximum suppression: of points within the radius only the highest is left.

    From the highest score down, a point is kept if no kept one lies within the radius, of
    whatever kind: an object is counted once. Equal scores go by place.

    Args:
        points: Of the whole slide, or a part of it.
        radius_um: Distance up to which two points are one object, um.
        slide_mpp: (x, y) um per level-0 px.

    Returns:
        The kept ones from top to bottom and left to right.
    """
    points = points.take(np.lexsort((points.kind, points.x_px, points.y_px, -points.score)))
    places = np.stack([points.x_px * slide_mpp[0], points.y_px * slide_mpp[1]], axis=1)
    pairs = cKDTree(places).query_pairs(radius_um, output_type="ndarray") if len(places) else None
    kept = np.ones(len(points), bool)
    if pairs is not None and len(pairs):
        kept = _greedy(len(points), pairs)
    points = points.take(kept)
    return points.take(np.lexsort((points.kind, points.x_px, points.y_px)))


def _greedy(n: int, pairs: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """The same choice as going through the points one by one, in a few rounds.

    In each round those are kept that have no stronger undecided neighbour.

    Args:
        n: Number of points, strongest first.
        pairs: (m, 2) neighbours, the stronger one first.
    """
    kept, undecided = np.zeros(n, bool), np.ones(n, bool)
    while undecided.any():
        free = undecided.copy()
        free[pairs[:, 1]] = False
        kept |= free
        undecided &= ~free
        undecided[pairs[free[pairs[:, 0]], 1]] = False
        pairs = pairs[undecided[pairs].all(axis=1)]
    return kept
