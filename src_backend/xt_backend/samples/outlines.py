"""Distances to outlines, rasterised for one window at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from shapely.geometry import Polygon

from xt_backend.samples.noise import Float, Window

__all__ = ["FAR_PX", "fill_outline", "signed_distance"]

FAR_PX = 96
"""Distances are exact up to here."""

_COARSE = 4


def fill_outline(
    mask: npt.NDArray[np.uint8],
    outline: Polygon,
    value: int,
    pixel_px: int,
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Set the pixels whose centres lie inside an outline.

    Args:
        mask: (rows, columns), changed in place.
        outline: Level-0 px, without holes.
        value: To set.
        pixel_px: Side of the mask's pixels in level-0 px.
        corner: (column, row) of the mask's first pixel, in its own pixels from the slide's.
    """
    x, y = np.asarray(outline.exterior.coords).T / pixel_px - 0.5
    x, y = x - corner[0], y - corner[1]
    # Only the rows and columns that the outline spans.
    top, bottom = np.clip([np.ceil(y.min()), np.ceil(y.max())], 0, mask.shape[0]).astype(int)
    left, right = np.clip([np.ceil(x.min()), np.ceil(x.max())], 0, mask.shape[1]).astype(int)
    if top >= bottom or left >= right:
        return
    first = np.clip(np.ceil(np.minimum(y[:-1], y[1:])), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y[:-1], y[1:])), top, bottom).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (x[edge + 1] - x[edge]) / (y[edge + 1] - y[edge])
    column = np.clip(np.ceil(x[edge] + (row - y[edge]) * slope), left, right).astype(np.int64)
    width = right - left + 1
    flips = np.bincount((row - top) * width + column - left, minlength=(bottom - top) * width)
    inside = np.cumsum(flips.reshape(-1, width)[:, :-1], axis=1) % 2 == 1
    mask[top:bottom, left:right][inside] = value


def signed_distance(outlines: Sequence[Polygon], window: Window) -> Float:
    """Distance to the border of the union of outlines in px, positive inside.

    Args:
        outlines: Level-0 px, without holes.
        window: Where.

    Returns:
        (height, width) float32, cut to -96 .. 96 px.
    """
    # A coarse raster that reaches beyond the window by the largest distance that counts and
    # is aligned to absolute positions, so that neighbouring windows agree.
    left = (window.x0_px - FAR_PX) // _COARSE - 1
    top = (window.y0_px - FAR_PX) // _COARSE - 1
    columns = (window.x0_px + window.width_px + FAR_PX) // _COARSE + 3 - left
    rows = (window.y0_px + window.height_px + FAR_PX) // _COARSE + 3 - top
    mask = np.zeros((rows, columns), np.uint8)
    for outline in outlines:
        fill_outline(mask, outline, 1, _COARSE, (left, top))
    if not mask.any():
        return np.full(window.shape, -FAR_PX, np.float32)
    if mask.all():
        return np.full(window.shape, FAR_PX, np.float32)
    inside = ndimage.distance_transform_edt(mask) - 0.5
    outside = ndimage.distance_transform_edt(1 - mask) - 0.5
    distance = (np.where(mask, inside, -outside) * _COARSE).astype(np.float32)
    np.clip(distance, -FAR_PX, FAR_PX, out=distance)
    ys = (np.arange(window.y0_px, window.y0_px + window.height_px) + 0.5) / _COARSE - 0.5 - top
    xs = (np.arange(window.x0_px, window.x0_px + window.width_px) + 0.5) / _COARSE - 0.5 - left
    row, column = np.floor(ys).astype(np.int64), np.floor(xs).astype(np.int64)
    ty, tx = (ys - row).astype(np.float32)[:, None], (xs - column).astype(np.float32)
    across = distance[:, column] * (1 - tx) + distance[:, column + 1] * tx
    return np.asarray(across[row] * (1 - ty) + across[row + 1] * ty, np.float32)
