"""Masks and points of two results, compared by place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from xt_backend.outputs.diff.agreement import Agreement
from xt_backend.outputs.mask_tiff import SlideMask
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = ["PointsDiff", "compare_masks", "compare_points"]

_ROWS_AT_ONCE = 1024


def compare_masks(a: SlideMask, b: SlideMask) -> Agreement:
    """The classes of pixels that have one in both masks.

    Each pixel of the first is compared with the one of the second that holds its middle, um from
    the masks' corners.
    """
    mask_a, mask_b = a.levels[0], b.levels[0]
    rows, cols = (((np.arange(n) + 0.5) * (a.mpp / b.mpp)).astype(np.int64) for n in mask_a.shape)
    height, width = (
        int(np.searchsorted(at, n)) for at, n in zip((rows, cols), mask_b.shape, strict=True)
    )
    found = Agreement.of(np.empty(0, int), np.empty(0, int), a.classes, b.classes)
    for first in range(0, height, _ROWS_AT_ONCE):
        part = slice(first, min(first + _ROWS_AT_ONCE, height))
        one = mask_a[part, :width]
        other = mask_b[rows[part]][:, cols[:width]]
        both = (one > 0) & (other > 0)
        labels = (one[both].astype(np.int64) - 1, other[both].astype(np.int64) - 1)
        found += Agreement.of(*labels, a.classes, b.classes)
    return found


@dataclass(frozen=True)
class PointsDiff:
    """Points of one kind.

    Attributes:
        n_a: Number in the first result.
        n_b: In the second.
        n_both: Points of the first that have one of the second near them, each taken once.
    """

    n_a: int
    n_b: int
    n_both: int


def compare_points(
    a: tuple[Points, ScoreMap, Sequence[str]],
    b: tuple[Points, ScoreMap, Sequence[str]],
    distance_um: float,
) -> dict[str, PointsDiff]:
    """Points of both, by kind; two are the same if each is the other's nearest one.

    Args:
        a: Points, the result that they belong to, and the names of their kinds.
        b: The same of the second.
        distance_um: So far apart they may be.
    """
    made = {}
    for kind in dict.fromkeys((*a[2], *b[2])):
        one, other = _places_um(*a, kind), _places_um(*b, kind)
        both = 0
        if len(one) and len(other):
            gaps, nearest = KDTree(other).query(one, distance_upper_bound=distance_um)
            _, back = KDTree(one).query(other)
            near = np.flatnonzero(np.isfinite(gaps))
            both = int((back[nearest[near]] == near).sum())
        made[kind] = PointsDiff(len(one), len(other), both)
    return made


def _places_um(
    points: Points, score_map: ScoreMap, kinds: Sequence[str], kind: str
) -> npt.NDArray[np.float64]:
    """(n, 2) um from the corner of what was scanned."""
    of_kind = points.take(points.kind == (list(kinds).index(kind) if kind in kinds else -1))
    x0_px, y0_px = score_map.lattice.origin_px
    mpp_x, mpp_y = score_map.slide_mpp
    return np.stack([(of_kind.x_px - x0_px) * mpp_x, (of_kind.y_px - y0_px) * mpp_y], axis=1)
