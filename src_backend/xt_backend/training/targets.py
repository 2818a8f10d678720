"""Soft labels: which share of every region each class covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

if TYPE_CHECKING:
    from xt_backend.slides import Shape

__all__ = ["Targets", "area_fractions", "visible_areas"]

_QUARTER_BELOW = 4
"""Boxes that are clipped one by one; more are halved together first."""


@dataclass(frozen=True)
class Targets:
    """What the annotations say about n regions.

    Attributes:
        fractions: (n, C) float32, share of the region's area that each class covers, 0 to 1;
            a row sums to `annotated`.
        annotated: (n,) float32, share of the region's area under any class.
    """

    fractions: npt.NDArray[np.float32]
    annotated: npt.NDArray[np.float32]

    def soft(self) -> npt.NDArray[np.float32]:
        """(n, C) float32 class shares of the annotated area: rows sum to 1, or to 0."""
        total = self.fractions.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float32] = np.divide(
            self.fractions, total, out=np.zeros_like(self.fractions), where=total > 0
        )
        return shares


def visible_areas(geometries: Sequence[BaseGeometry]) -> list[BaseGeometry]:
    """Take from every geometry what a later one covers.

    Args:
        geometries: In drawing order, level-0 px; later ones lie on top.

    Returns:
        As many geometries, none overlapping another; empty where nothing is left to see.
    """
    tree = shapely.STRtree(list(geometries))
    visible = []
    for index, geometry in enumerate(geometries):
        above = tree.query(geometry, predicate="intersects")
        above = above[above > index]
        if len(above):
            cover = shapely.union_all([geometries[int(other)] for other in above])
            geometry = shapely.difference(geometry, cover)
        visible.append(geometry)
    return visible


def area_fractions(
    boxes_px: npt.NDArray[np.int64],
    shapes: Sequence[Shape],
    classes: Mapping[str, int],
    extent_px: tuple[int, int, int, int],
) -> Targets:
    """Measure how much of every region each class covers.

    The areas are exact (polygon clipping, no raster). Later shapes lie over earlier ones; shapes
    without a class, with a class not in `classes`, or without an area are passed over and hide
    nothing.

    Args:
        boxes_px: (n, 4) x0, y0, x1, y1 of the regions in level-0 px.
        shapes: In the order of the file, level-0 px.
        classes: Column of every class, 0 to C - 1.
        extent_px: x, y, width, height of the part that holds the image, level-0 px. The part of a
            region outside of it does not count, so that a region over the slide's edge can be
            fully annotated.

    Returns:
        Targets of the n regions with C columns.
    """
    areal = [
        shape for shape in shapes if shape.name in classes and shapely.area(shape.geometry) > 0
    ]
    covered = np.zeros((len(boxes_px), len(classes)))
    inside = _clip_to_extent(np.asarray(boxes_px, np.float64), extent_px)
    for shape, geometry in zip(
        areal, visible_areas([shape.geometry for shape in areal]), strict=True
    ):
        if not geometry.is_empty and shape.name is not None:
            _add_areas(geometry, inside, covered[:, classes[shape.name]])
    area = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    fractions = np.divide(
        covered, area[:, None], out=np.zeros_like(covered), where=area[:, None] > 0
    )
    fractions = np.clip(fractions, 0.0, 1.0).astype(np.float32)
    return Targets(fractions, np.minimum(fractions.sum(axis=1), np.float32(1.0)))


def _clip_to_extent(
    boxes_px: npt.NDArray[np.float64], extent_px: tuple[int, int, int, int]
) -> npt.NDArray[np.float64]:
    """Cut (n, 4) boxes at the extent; those outside become empty, never inside out."""
    x_px, y_px, width_px, height_px = extent_px
    low, high = np.array([x_px, y_px]), np.array([x_px + width_px, y_px + height_px])
    return np.concatenate(
        [np.clip(boxes_px[:, :2], low, high), np.clip(boxes_px[:, 2:], low, high)], axis=1
    )


def _add_areas(
    geometry: BaseGeometry, boxes_px: npt.NDArray[np.float64], areas: npt.NDArray[np.float64]
) -> None:
    """Add to `areas` (n,) the area that `geometry` has in common with each of n boxes.

    Outlines drawn by hand have thousands of vertices and lie over thousands of regions. Halving
    the boxes and clipping the outline with each half costs n log n instead of n times v.
    """
    x0, y0, x1, y1 = geometry.bounds
    near = np.flatnonzero(
        (boxes_px[:, 0] < x1)
        & (boxes_px[:, 2] > x0)
        & (boxes_px[:, 1] < y1)
        & (boxes_px[:, 3] > y0)
    )
    waiting = [(geometry, near)]
    while waiting:
        part, rows = waiting.pop()
        if not len(rows) or part.is_empty:
            continue
        mine = boxes_px[rows]
        if len(rows) <= _QUARTER_BELOW:
            areas[rows] += shapely.area(shapely.intersection(part, shapely.box(*mine.T)))
            continue
        frame = np.concatenate([mine[:, :2].min(axis=0), mine[:, 2:].max(axis=0)])
        part = shapely.intersection(part, shapely.box(*frame))
        frame_area = (frame[2] - frame[0]) * (frame[3] - frame[1])
        if shapely.area(part) >= frame_area * (1.0 - 1e-12):
            areas[rows] += (mine[:, 2] - mine[:, 0]) * (mine[:, 3] - mine[:, 1])
            continue
        axis = 0 if frame[2] - frame[0] >= frame[3] - frame[1] else 1
        order = np.argsort(mine[:, axis], kind="stable")
        half = len(rows) // 2
        waiting += [(part, rows[order[:half]]), (part, rows[order[half:]])]
