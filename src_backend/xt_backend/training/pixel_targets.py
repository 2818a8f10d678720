"""What the decoder of dense and detection models shall say of every region, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from xt_backend.errors import AnnotationError
from xt_backend.keys import DENSE_STRIDE
from xt_backend.slides import Lattice, Objects, Shape

__all__ = ["IGNORED", "HeatTargets", "MaskTargets", "PixelTargets"]

IGNORED = -1
"""Label of a pixel that nobody annotated."""

FALL_OFF = 3.0
"""Standard deviations of a peak within the radius of an object."""

SMALLEST_PEAK_PX = 0.5
"""Standard deviation of a peak, px of the heat map."""

LARGEST_OBJECT = 8.0
"""Times the radius; a larger outline is hardly one object."""

Floats = npt.NDArray[np.float32]
Cells = npt.NDArray[np.int32]


class _Grid:
    """The pixels of the masks of regions: steps and middles in level-0 px."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self.side = lattice.region_px // DENSE_STRIDE
        self.step_px = np.array(
            [DENSE_STRIDE * lattice.model_mpp / mpp for mpp in lattice.slide_mpp]
        )
        self._end_px = np.add(lattice.origin_px, lattice.extent_px)

    def middles(self, box_px: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(2, side) x of the columns and y of the rows of the region in a box."""
        along = np.arange(self.side) + 0.5
        return np.asarray(box_px[:2, None] + along * self.step_px[:, None])

    def off_slide(self, box_px: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(side, side) which pixels lie beyond the slide's bounds."""
        x, y = self.middles(box_px)
        return ~np.outer(y < self._end_px[1], x < self._end_px[0])

    def covered(
        self, geometry: BaseGeometry, box_px: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """(side, side) which pixels have their middle within a geometry."""
        x, y = self.middles(box_px)
        frame = shapely.box(x[0], y[0], x[-1], y[-1]).buffer(self.step_px.max())
        near = shapely.intersection(geometry, frame)
        if near.is_empty or shapely.covers(near, frame):
            return np.full((self.side, self.side), not near.is_empty)
        shapely.prepare(near)
        # With the outline, so that no seam is left between two areas that share it.
        return np.asarray(shapely.intersects_xy(near, *np.meshgrid(x, y)), np.bool_)


class MaskTargets:
    """Masks of the annotated areas of one slide.

    Args:
        lattice: Of the slide.
        shapes: In the order of the file, level-0 px; later ones lie over earlier ones.
        classes: Index of every class; others are passed over.
        shares: (N,) annotated share of every region of the field.

    Attributes:
        weights: (N,) what each region counts in the loss: its annotated share.
        known: (N,) regions from which there is something to learn.
        anchors: (N,) regions around which it is worth to look.
    """

    def __init__(
        self,
        lattice: Lattice,
        shapes: Sequence[Shape],
        classes: Mapping[str, int],
        shares: Floats,
    ) -> None:
        self.weights = shares
        self.known = self.anchors = np.asarray(shares > 0)
        self._grid = _Grid(lattice)
        known = [(classes.get(shape.name or ""), shape.geometry) for shape in shapes]
        self._geometries = [geometry for label, geometry in known if label is not None]
        self._labels = [label for label, _ in known if label is not None]
        self._tree = shapely.STRtree(self._geometries)

    def of(self, cells: Cells) -> npt.NDArray[np.int64]:
        """(n, h, h) index of the class at the middle of every mask pixel, or `IGNORED`."""
        grid = self._grid
        masks = np.full((len(cells), grid.side, grid.side), IGNORED, np.int64)
        for mask, box_px in zip(masks, grid.lattice.boxes(cells), strict=True):
            for index in sorted(self._tree.query(shapely.box(*box_px))):
                mask[grid.covered(self._geometries[index], box_px)] = self._labels[index]
            mask[grid.off_slide(box_px)] = IGNORED
        return masks


class HeatTargets:
    """Heat maps of the objects of one slide: a peak of 1 at each, falling off within its radius.

    Args:
        lattice: Of the slide.
        cells: (N, 2) of the field.
        objects: What was marked, and where it was looked for; everywhere when no area is named.
        kinds: Channel of every kind; others are passed over.
        radius_um: Of an object.

    Attributes:
        places_px: (n, 2) of the objects that count, level-0 px.
        place_kinds: (n,) int32, their channels.
        searched: Where all objects are marked; None stands for everywhere.
        counts: (N, K) objects in every region.
        shares: (N,) share of every region that was searched.
        weights: (N,) what each region counts in the loss: its objects.
        known: (N,) regions from which there is something to learn.
        anchors: (N,) regions with objects.

    Raises:
        AnnotationError: An outline is too large to be one object.
    """

    def __init__(
        self,
        lattice: Lattice,
        cells: Cells,
        objects: Objects,
        kinds: Mapping[str, int],
        radius_um: float,
    ) -> None:
        self._grid = _Grid(lattice)
        self._mpp = np.array(lattice.slide_mpp)
        self._radius_um = radius_um
        rows = [row for row, name in enumerate(objects.names) if name in kinds]
        _check_sizes(objects, rows, self._mpp.max(), radius_um)
        self.places_px = objects.places_px[rows]
        self.place_kinds = np.array([kinds[objects.names[row]] for row in rows], np.int32)
        boxes_px = lattice.boxes(cells)
        self.shares = np.ones(len(cells), np.float32)
        self.searched: BaseGeometry | None = None
        if objects.searched:
            self.searched = shapely.union_all(list(objects.searched))
            inside = shapely.contains_xy(self.searched, *self.places_px.T)
            self.places_px, self.place_kinds = self.places_px[inside], self.place_kinds[inside]
            places = shapely.box(*boxes_px.T)
            common = shapely.area(shapely.intersection(self.searched, places))
            self.shares = np.asarray(common / shapely.area(places), np.float32)
        self._tree = cKDTree(self.places_px * self._mpp)
        self.counts = np.stack(
            [_count(boxes_px, self.places_px[self.place_kinds == kind]) for kind in kinds.values()],
            axis=1,
        )
        self._n_kinds = len(kinds)
        self.weights: Floats = np.asarray(self.counts.sum(axis=1))
        self.known = np.asarray(self.shares > 0)
        self.anchors = np.asarray(self.weights > 0)

    def of(self, cells: Cells) -> Floats:
        """(n, K, h, h) heat, 0 to 1, NaN where nobody looked."""
        boxes_px = self._grid.lattice.boxes(cells)
        if not len(boxes_px):
            return np.empty((0, self._n_kinds, self._grid.side, self._grid.side), np.float32)
        return np.stack([self._heat(box_px) for box_px in boxes_px])

    def within(
        self, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """(n,) which places were searched."""
        if self.searched is None:
            return np.ones(len(x_px), np.bool_)
        return np.asarray(shapely.contains_xy(self.searched, x_px, y_px), np.bool_)

    def _heat(self, box_px: npt.NDArray[np.int64]) -> Floats:
        grid = self._grid
        side, step_um = grid.side, grid.step_px * self._mpp
        heat = np.zeros((self._n_kinds, side, side), np.float32)
        sigma = np.maximum(self._radius_um / FALL_OFF / step_um, SMALLEST_PEAK_PX)
        reach_um = np.hypot(*(step_um * (side / 2))) + self._radius_um + step_um.max()
        middle_um = (box_px[:2] + grid.step_px * (side / 2)) * self._mpp
        along = np.arange(side)
        for index in sorted(self._tree.query_ball_point(middle_um, reach_um)):
            # The peak stands on a pixel, so that it is 1 there.
            at = np.floor((self.places_px[index] - box_px[:2]) / grid.step_px)
            across, down = (
                np.exp(-0.5 * ((along - at[axis]) / sigma[axis]) ** 2) for axis in (0, 1)
            )
            mine = heat[self.place_kinds[index]]
            np.maximum(mine, np.outer(down, across).astype(np.float32), out=mine)
        if self.searched is not None:
            heat[:, ~grid.covered(self.searched, box_px)] = np.nan
        heat[:, grid.off_slide(box_px)] = np.nan
        return heat


PixelTargets: TypeAlias = MaskTargets | HeatTargets


def _check_sizes(objects: Objects, rows: Sequence[int], mpp: float, radius_um: float) -> None:
    """Refuse areas that were taken for objects.

    Args:
        objects: As they were marked.
        rows: Those that count.
        mpp: Larger side of a level-0 pixel, um.
        radius_um: Of an object.
    """
    most = 2 * LARGEST_OBJECT * radius_um
    large = [row for row in rows if objects.sides_px[row] * mpp > most]
    if not large:
        return
    largest = max(large, key=lambda row: objects.sides_px[row])
    areas = sorted({objects.names[row] for row in large})
    others = sorted({objects.names[row] for row in rows} - set(areas))
    named = f"--classes {','.join(others)}" if others else "with --classes"
    raise AnnotationError(
        f"An outline of class {objects.names[largest]} is {objects.sides_px[largest] * mpp:.0f} um "
        f"long, too large for an object of {2 * radius_um:g} um",
        f"Name the classes of the objects alone, {named}, which leaves all others out; or remove "
        "the class from areas that were searched, or raise --peak-radius-um",
    )


def _count(boxes_px: npt.NDArray[np.int64], places_px: npt.NDArray[np.float64]) -> Floats:
    """(N,) places in each of N boxes."""
    x, y = places_px.T
    tree = shapely.STRtree(shapely.points(x, y))
    rows, hits = tree.query(shapely.box(*boxes_px.T))
    x0, y0, x1, y1 = boxes_px[rows].T
    inside = (x[hits] >= x0) & (x[hits] < x1) & (y[hits] >= y0) & (y[hits] < y1)
    return np.bincount(rows[inside], minlength=len(boxes_px)).astype(np.float32)
