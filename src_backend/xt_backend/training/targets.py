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

__all__ = ["Areas", "Targets", "visible_areas"]

_FEW_VERTICES = 128
"""Of a piece that is not cut any further."""

_MOST_CUTS = 40


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


class Areas:
    """What can be seen of the annotated areas of a slide: ready to measure any regions.

    Shapes without a class, with a class not in `classes`, or without an area are passed over and
    hide nothing.

    Args:
        shapes: In the order of the file, level-0 px; later ones lie over earlier ones.
        classes: Column of every class, 0 to C - 1.
    """

    def __init__(self, shapes: Sequence[Shape], classes: Mapping[str, int]) -> None:
        areal = [
            shape for shape in shapes if shape.name in classes and shapely.area(shape.geometry) > 0
        ]
        visible = visible_areas([shape.geometry for shape in areal])
        self._n_classes = len(classes)
        pieces: list[BaseGeometry] = []
        columns: list[int] = []
        for shape, geometry in zip(areal, visible, strict=True):
            if shape.name is not None:
                found = _pieces(geometry)
                pieces += found
                columns += [classes[shape.name]] * len(found)
        self._pieces = np.array(pieces, dtype=object)
        self._columns = np.array(columns, np.int64)
        self._tree = shapely.STRtree(pieces)

    def targets(
        self, boxes_px: npt.NDArray[np.int64], extent_px: tuple[int, int, int, int]
    ) -> Targets:
        """Measure how much of every region each class covers.

        The areas are exact (polygon clipping, no raster).

        Args:
            boxes_px: (n, 4) x0, y0, x1, y1 of the regions in level-0 px.
            extent_px: x, y, width, height of the part that holds the image, level-0 px. The part of
                a region outside of it does not count, so that a region over the slide's edge can
                be fully annotated.

        Returns:
            Targets of the n regions with C columns.
        """
        covered = np.zeros((len(boxes_px), self._n_classes))
        inside = _clip_to_extent(np.asarray(boxes_px, np.float64), extent_px)
        boxes = np.asarray(shapely.box(*inside.T), dtype=object)
        rows, pieces = self._tree.query(boxes)
        shared = shapely.area(shapely.intersection(boxes[rows], self._pieces[pieces]))
        np.add.at(covered, (rows, self._columns[pieces]), shared)
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


def _pieces(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Cut an area into parts with few vertices, most of them rectangles inside of it.

    Outlines drawn by hand have thousands of vertices and lie over thousands of regions. Cutting
    them once costs n log n; after that a region only meets the few vertices that are near it.
    """
    done: list[BaseGeometry] = []
    waiting = [(geometry, 0)]
    while waiting:
        part, depth = waiting.pop()
        if part.is_empty or not part.area:
            continue
        if depth == _MOST_CUTS or shapely.get_num_coordinates(part) <= _FEW_VERTICES:
            done.append(part)
            continue
        waiting += [(half, depth + 1) for half in _halves(part)]
    return done


def _halves(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Cut an area in the middle of its longer side."""
    x0, y0, x1, y1 = geometry.bounds
    if x1 - x0 >= y1 - y0:
        x = (x0 + x1) / 2
        frames = [(x0, y0, x, y1), (x, y0, x1, y1)]
    else:
        y = (y0 + y1) / 2
        frames = [(x0, y0, x1, y), (x0, y, x1, y1)]
    halves = [shapely.clip_by_rect(geometry, *frame) for frame in frames]
    # Quick, but not always clean.
    total = sum(half.area for half in halves)
    if abs(total - geometry.area) > 1e-9 * geometry.area or not shapely.is_valid(halves).all():
        halves = [shapely.intersection(geometry, shapely.box(*frame)) for frame in frames]
    return halves
