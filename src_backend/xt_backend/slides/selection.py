"""Which cells of a lattice hold tissue, and which of it lies in an ROI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from xt_backend.errors import UsageError

__all__ = ["CellSpans", "cells_with_tissue", "cells_with_tissue_in_roi", "tissue_areas"]

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class CellSpans:
    """Columns and rows of cells over a mask.

    Attributes:
        x0: (n_cols,) level-0 px, start of each column.
        x1: (n_cols,) its end, exclusive.
        y0: (n_rows,) start of each row.
        y1: (n_rows,) its end, exclusive.
        scale_x: Level-0 px per mask pixel along x.
        scale_y: Level-0 px per mask pixel along y.
    """

    x0: Ints
    x1: Ints
    y0: Ints
    y1: Ints
    scale_x: float
    scale_y: float

    def mask_columns(self, width: int) -> tuple[Ints, Ints]:
        """First and end (exclusive) mask column that each column of cells overlaps."""
        return _overlapped(self.x0, self.x1, self.scale_x, width)

    def mask_rows(self, height: int) -> tuple[Ints, Ints]:
        """First and end (exclusive) mask row that each row of cells overlaps."""
        return _overlapped(self.y0, self.y1, self.scale_y, height)


def tissue_areas(mask: Mask, spans: CellSpans) -> Floats:
    """(n_rows, n_cols) float64: area of the True mask pixels in each cell, level-0 px.

    Exact: of a mask pixel that straddles cells, each gets the part that lies in it.
    """
    total = _summed(mask)
    strips = _at(total, spans.y1 / spans.scale_y) - _at(total, spans.y0 / spans.scale_y)
    columns = strips.T
    areas = _at(columns, spans.x1 / spans.scale_x) - _at(columns, spans.x0 / spans.scale_x)
    return np.asarray(areas.T * (spans.scale_x * spans.scale_y), np.float64)


def _at(sums: npt.NDArray[Any], places: Floats) -> Floats:
    """Sums up to places between the rows, which they are linear in."""
    places = places.clip(0, len(sums) - 1)
    first = np.minimum(places.astype(np.int64), len(sums) - 2)
    beyond = (places - first)[:, None]
    return np.asarray(sums[first] * (1 - beyond) + sums[first + 1] * beyond, np.float64)


def _summed(mask: Mask) -> Ints:
    """(h + 1, w + 1) number of True pixels above and left of each corner of the mask's pixels."""
    height, width = mask.shape
    total = np.zeros((height + 1, width + 1), dtype=np.int64)
    np.cumsum(mask, axis=0, dtype=np.int64, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    return total


def _overlapped(start: Ints, end: Ints, scale: float, size: int) -> tuple[Ints, Ints]:
    # Without the tolerance, 512 / 0.1 * ... just beside a whole number would count a pixel
    # that only touches.
    first = np.floor(start / scale + _ROUNDING).astype(np.int64).clip(0, size)
    last = np.ceil(end / scale - _ROUNDING).astype(np.int64).clip(0, size)
    return first, np.maximum(last, first)


def _counts(mask: Mask, spans: CellSpans) -> Ints:
    """(n_rows, n_cols) number of True mask pixels that each cell overlaps."""
    height, width = mask.shape
    total = _summed(mask)
    c0, c1 = spans.mask_columns(width)
    r0, r1 = spans.mask_rows(height)
    strips = total[r1] - total[r0]
    counts: Ints = strips[:, c1] - strips[:, c0]
    return counts


def cells_with_tissue(mask: Mask, spans: CellSpans) -> Mask:
    """(n_rows, n_cols) bool: cells that overlap at least one True pixel of the mask."""
    return _counts(mask, spans) > 0


def cells_with_tissue_in_roi(mask: Mask, spans: CellSpans, roi: BaseGeometry) -> Mask:
    """(n_rows, n_cols) bool: cells in which a True pixel and the ROI share some area.

    Args:
        mask: (h, w) bool.
        spans: The cells.
        roi: Polygon, MultiPolygon or a collection of them, level-0 px.

    Raises:
        UsageError: The ROI crosses itself or has no area.
    """
    area = _area_of(roi)
    counts = _counts(mask, spans)
    selected = np.zeros(counts.shape, dtype=bool)
    left, top, right, bottom = area.bounds
    near = (counts > 0) & np.outer(
        (spans.y1 > top) & (spans.y0 < bottom), (spans.x1 > left) & (spans.x0 < right)
    )
    rows, cols = np.nonzero(near)
    if not rows.size:
        return selected
    cells = shapely.box(spans.x0[cols], spans.y0[rows], spans.x1[cols], spans.y1[rows])
    shapely.prepare(area)
    hit = _share_area(area, cells)
    rows, cols, cells = rows[hit], cols[hit], cells[hit]

    c0, c1 = spans.mask_columns(mask.shape[1])
    r0, r1 = spans.mask_rows(mask.shape[0])
    pixels = (r1 - r0)[rows] * (c1 - c0)[cols]
    full = counts[rows, cols] == pixels
    sure = full | shapely.covers(area, cells)
    selected[rows[sure], cols[sure]] = True
    # Only cells that the ROI cuts and that are part tissue need a look at the mask's pixels.
    for row, col in zip(rows[~sure], cols[~sure], strict=True):
        x0, x1, y0, y1 = _tissue_runs(mask[r0[row] : r1[row], c0[col] : c1[col]])
        tissue = shapely.box(
            np.maximum((x0 + c0[col]) * spans.scale_x, spans.x0[col]),
            np.maximum((y0 + r0[row]) * spans.scale_y, spans.y0[row]),
            np.minimum((x1 + c0[col]) * spans.scale_x, spans.x1[col]),
            np.minimum((y1 + r0[row]) * spans.scale_y, spans.y1[row]),
        )
        selected[row, col] = bool(_share_area(area, tissue).any())
    return selected


def _area_of(roi: BaseGeometry) -> BaseGeometry:
    if not roi.is_valid:
        raise UsageError(
            f"the ROI is not a valid area ({shapely.is_valid_reason(roi)})",
            "Draw it again without crossing its own outline",
        )
    parts = [part for part in shapely.get_parts(roi, return_index=False) if part.area > 0]
    flat = [piece for part in parts for piece in shapely.get_parts(part) if piece.area > 0]
    if not flat:
        raise UsageError("the ROI has no area", "Draw a polygon that encloses tissue")
    merged: BaseGeometry = flat[0] if len(flat) == 1 else shapely.union_all(flat)
    return merged


def _share_area(area: BaseGeometry, boxes: npt.NDArray[np.object_]) -> Mask:
    """Whether the interiors meet; boxes that only touch the outline do not count."""
    shared: Mask = shapely.intersects(area, boxes) & ~shapely.touches(area, boxes)
    return shared


def _tissue_runs(mask: Mask) -> tuple[Ints, Ints, Ints, Ints]:
    """The True pixels as one-row rectangles: x0, x1, y0, y1, ends exclusive, mask px."""
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    rows, x0 = np.nonzero(change == 1)
    _, x1 = np.nonzero(change == -1)
    return x0, x1, rows, rows + 1
