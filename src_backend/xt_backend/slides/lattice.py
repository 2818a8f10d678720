"""All region places of a slide: pure geometry, no pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from xt_backend.errors import UsageError
from xt_backend.slides.selection import (
    CellSpans,
    cells_with_tissue,
    cells_with_tissue_in_roi,
    tissue_areas,
)

__all__ = ["Lattice"]

Cells = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Lattice:
    """Places of square regions, anchored at the corner of the slide's bounds.

    Cell i spans, along each axis and in level-0 px from the origin,
    ``floor(i * t + 0.5)`` to ``floor(i * t + s + 0.5)``, where s and t are the region's side and
    the stride in level-0 px, never rounded themselves. With stride = region, cells meet without
    gap or overlap. There are as many cells as are needed to cover the extent.

    Attributes:
        origin_px: (x, y) of the bounds' corner, level-0 px.
        extent_px: (width, height) of the bounds, level-0 px.
        region_px: Side of a region, px at `model_mpp`.
        stride_px: Step from region to region, px at `model_mpp`, 1 to `region_px`.
        model_mpp: um/px that the model wants.
        slide_mpp: (x, y) um/px of level 0.

    Raises:
        UsageError: A value outside its range.
    """

    origin_px: tuple[int, int]
    extent_px: tuple[int, int]
    region_px: int
    stride_px: int
    model_mpp: float
    slide_mpp: tuple[float, float]

    def __post_init__(self) -> None:
        if self.region_px < 1:
            raise UsageError(f"region_px is {self.region_px}", "Give a region of at least 1 px")
        if not 1 <= self.stride_px <= self.region_px:
            raise UsageError(
                f"a stride of {self.stride_px} px does not fit regions of {self.region_px} px",
                f"Give a stride from 1 to {self.region_px} px",
            )
        if min(self.extent_px) < 1:
            raise UsageError(f"the extent {self.extent_px} px is empty", "Give at least 1 x 1 px")
        if not all(math.isfinite(v) and v > 0 for v in (self.model_mpp, *self.slide_mpp)):
            raise UsageError(
                f"model mpp {self.model_mpp} and slide mpp {self.slide_mpp} must be above 0",
                "Give both in um/px",
            )
        if min(self._ratio(0), self._ratio(1)) * self.region_px < 1:
            raise UsageError(
                f"a region of {self.region_px} px at {self.model_mpp:g} um/px is smaller than one "
                "pixel of the slide",
                "Use larger regions or a slide of higher resolution",
            )

    @classmethod
    def for_bounds(
        cls,
        bounds_px: tuple[int, int, int, int],
        slide_mpp: tuple[float, float],
        model_mpp: float,
        region_px: int,
        stride_px: int | None = None,
    ) -> Lattice:
        """The lattice of a slide with these bounds.

        Args:
            bounds_px: x, y, width, height of the bounds, level-0 px.
            slide_mpp: (x, y) um/px of level 0.
            model_mpp: um/px that the model wants.
            region_px: Side of a region, px at `model_mpp`.
            stride_px: Step from region to region, px at `model_mpp`; None for `region_px`.
        """
        x, y, width, height = bounds_px
        stride = region_px if stride_px is None else stride_px
        return cls((x, y), (width, height), region_px, stride, model_mpp, slide_mpp)

    @property
    def n_cols(self) -> int:
        """Number of cells along x."""
        return self._count(0)

    @property
    def n_rows(self) -> int:
        """Number of cells along y."""
        return self._count(1)

    def all_cells(self) -> Cells:
        """Every cell, (n, 2) int32 of (col, row), in raster order."""
        rows, cols = np.indices((self.n_rows, self.n_cols), dtype=np.int32)
        return np.stack([cols.ravel(), rows.ravel()], axis=1)

    def boxes(self, cells: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where cells lie.

        Args:
            cells: (n, 2) int of (col, row).

        Returns:
            (n, 4) int64 of x0, y0, x1, y1, level-0 px, ends exclusive; a cell at the far edge
            may reach beyond the extent.
        """
        cells = np.asarray(cells, dtype=np.int64).reshape(-1, 2)
        x0, x1 = self._span(cells[:, 0], 0)
        y0, y1 = self._span(cells[:, 1], 1)
        x, y = self.origin_px
        return np.stack([x0 + x, y0 + y, x1 + x, y1 + y], axis=1)

    def is_edge(self, cells: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which cells lie partly outside the extent, (n,) bool.

        Args:
            cells: (n, 2) int of (col, row).
        """
        boxes = self.boxes(cells)
        far = np.add(self.origin_px, self.extent_px)
        edge: npt.NDArray[np.bool_] = np.any(boxes[:, 2:] > far, axis=1)
        return edge

    def centres_um(self, cells: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Middles of cells, (n, 2) float64, um from the origin (not from the slide's corner).

        Args:
            cells: (n, 2) int of (col, row).
        """
        cells = np.asarray(cells, dtype=np.float64).reshape(-1, 2)
        middles: npt.NDArray[np.float64] = (
            cells * self.stride_px + self.region_px / 2
        ) * self.model_mpp
        return middles

    def select(
        self,
        tissue: npt.NDArray[np.bool_],
        scale_x: float,
        scale_y: float,
        roi: BaseGeometry | None = None,
    ) -> Cells:
        """The cells that hold tissue inside the ROI.

        A mask pixel that straddles several cells counts for each of them. What lies outside the
        extent never counts.

        Args:
            tissue: (h, w) bool; pixel (r, c) stands for the level-0 px from
                (c * scale_x, r * scale_y) to ((c + 1) * scale_x, (r + 1) * scale_y).
            scale_x: Level-0 px per mask pixel along x.
            scale_y: Level-0 px per mask pixel along y.
            roi: Polygon or MultiPolygon, level-0 px; None for everything.

        Returns:
            (n, 2) int32 of (col, row) in raster order; possibly empty.

        Raises:
            UsageError: The mask is not 2-dimensional, a scale is not above 0, or the ROI crosses
                itself or has no area.
        """
        spans = self._spans_over(tissue, scale_x, scale_y)
        mask = tissue.astype(bool, copy=False)
        if roi is None:
            grid = cells_with_tissue(mask, spans)
        else:
            grid = cells_with_tissue_in_roi(mask, spans, roi)
        rows, cols = np.nonzero(grid)
        return np.stack([cols, rows], axis=1).astype(np.int32)

    def tissue_shares(
        self,
        tissue: npt.NDArray[np.bool_],
        scale_x: float,
        scale_y: float,
        cells: npt.ArrayLike,
    ) -> npt.NDArray[np.float32]:
        """Share of the area of cells that is tissue, (n,) float32 from 0 to 1.

        What lies outside the extent is no tissue.

        Args:
            tissue: (h, w) bool, as of `select`.
            scale_x: Level-0 px per mask pixel along x.
            scale_y: Level-0 px per mask pixel along y.
            cells: (n, 2) int of (col, row).

        Raises:
            UsageError: The mask is not 2-dimensional, or a scale is not above 0.
        """
        spans = self._spans_over(tissue, scale_x, scale_y)
        cols, rows = np.asarray(cells, dtype=np.int64).reshape(-1, 2).T
        areas = tissue_areas(tissue.astype(bool, copy=False), spans)[rows, cols]
        shares: npt.NDArray[np.float32] = (areas / self._areas(cells)).astype(np.float32)
        return shares.clip(0, 1)

    def inside_shares(self, cells: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Share of the area of cells that lies inside the extent, (n,) float32.

        Args:
            cells: (n, 2) int of (col, row).
        """
        boxes = self.boxes(cells)
        far = np.add(self.origin_px, self.extent_px)
        inside = (np.minimum(boxes[:, 2:], far) - boxes[:, :2]).clip(0).prod(axis=1)
        shares: npt.NDArray[np.float32] = (inside / self._areas(cells)).astype(np.float32)
        return shares

    def affine_to_level0(self) -> npt.NDArray[np.float64]:
        """(3, 3) float64 from (col, row, 1) to level-0 px (x, y, 1).

        Whole numbers are the cells' top-left corners, so that (col + 0.5, row + 0.5) is the
        middle where the stride equals the region. Exact; `boxes` rounds to whole pixels.
        """
        tx, ty = (self._ratio(axis) * self.stride_px for axis in (0, 1))
        x, y = self.origin_px
        return np.array([[tx, 0.0, x], [0.0, ty, y], [0.0, 0.0, 1.0]])

    def middles_to_level0(self) -> npt.NDArray[np.float64]:
        """`affine_to_level0` of the cells' middles: squares as wide as the stride, which meet.

        Where regions do not overlap, they are the regions.
        """
        affine = self.affine_to_level0()
        affine[:2, 2] += [self.margin_px * self._ratio(axis) for axis in (0, 1)]
        return affine

    def middle_edges(self, axis: int) -> npt.NDArray[np.int64]:
        """Where the middles of neighbours meet along an axis, in whole level-0 px.

        Args:
            axis: 0 for the columns, 1 for the rows.

        Returns:
            (n + 1,) int64; where regions do not overlap, the edges of `boxes`.
        """
        starts = np.arange(self._count(axis) + 1) * self.stride_px + self.margin_px
        edges: npt.NDArray[np.int64] = np.floor(starts * self._ratio(axis) + 0.5).astype(np.int64)
        return edges + self.origin_px[axis]

    def affine_to_um(self) -> npt.NDArray[np.float64]:
        """(3, 3) float64 from (col, row, 1) to um from the slide's level-0 pixel (0, 0).

        The same corners as in `affine_to_level0`, times the slide's mpp.
        """
        scale = np.diag([*self.slide_mpp, 1.0])
        affine: npt.NDArray[np.float64] = scale @ self.affine_to_level0()
        return affine

    def to_dict(self) -> dict[str, Any]:
        """The lattice as plain numbers and lists, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Lattice:
        """The lattice that `to_dict` described.

        Raises:
            UsageError: A key is missing or unknown, or a value is of the wrong kind.
        """
        try:
            (x, y), (width, height) = values["origin_px"], values["extent_px"]
            mpp_x, mpp_y = values["slide_mpp"]
            lattice = cls(
                origin_px=(int(x), int(y)),
                extent_px=(int(width), int(height)),
                region_px=int(values["region_px"]),
                stride_px=int(values["stride_px"]),
                model_mpp=float(values["model_mpp"]),
                slide_mpp=(float(mpp_x), float(mpp_y)),
            )
        except KeyError as error:
            raise UsageError(f"the lattice lacks {error.args[0]!r}", "Use to_dict's keys") from None
        except (TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"the lattice is damaged: {error}", "Use to_dict's values") from None
        unknown = set(values) - set(asdict(lattice))
        if unknown:
            raise UsageError(f"the lattice has unknown keys {sorted(unknown)}", "Remove them")
        return lattice

    def _spans_over(
        self, tissue: npt.NDArray[np.bool_], scale_x: float, scale_y: float
    ) -> CellSpans:
        if tissue.ndim != 2:
            raise UsageError(f"the tissue mask has {tissue.ndim} dimensions", "Give a 2-D mask")
        if not (math.isfinite(scale_x) and math.isfinite(scale_y) and min(scale_x, scale_y) > 0):
            raise UsageError(f"mask scale {scale_x}, {scale_y} is not above 0", "Give px per pixel")
        return CellSpans(
            *self._clipped(0), *self._clipped(1), scale_x=float(scale_x), scale_y=float(scale_y)
        )

    def _areas(self, cells: npt.ArrayLike) -> npt.NDArray[np.int64]:
        boxes = self.boxes(cells)
        areas: npt.NDArray[np.int64] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        return areas

    @property
    def margin_px(self) -> float:
        """From the edge of a region to that of its middle, px at model mpp."""
        return (self.region_px - self.stride_px) / 2

    def _ratio(self, axis: int) -> float:
        """Level-0 px per px at model mpp."""
        return self.model_mpp / self.slide_mpp[axis]

    def _span(
        self, indices: npt.NDArray[np.int64], axis: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        # The whole number of model px is multiplied last: with stride = region, the end of a
        # cell and the start of the next one are then the same product and round alike.
        start = indices * self.stride_px
        ratio = self._ratio(axis)
        return (
            np.floor(start * ratio + 0.5).astype(np.int64),
            np.floor((start + self.region_px) * ratio + 0.5).astype(np.int64),
        )

    def _count(self, axis: int) -> int:
        extent = self.extent_px[axis]
        step = self._ratio(axis) * self.stride_px
        guess = math.ceil((extent - self._ratio(axis) * self.region_px) / step)
        tries = np.arange(max(guess - 2, 0), max(guess, 0) + 4, dtype=np.int64)
        ends = self._span(tries, axis)[1]
        # Rounding of the ends may cost or save a cell against the guess.
        return int(tries[np.argmax(ends >= extent)]) + 1

    def _clipped(self, axis: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        starts, ends = self._span(np.arange(self._count(axis), dtype=np.int64), axis)
        origin = self.origin_px[axis]
        return starts + origin, np.minimum(ends, self.extent_px[axis]) + origin
