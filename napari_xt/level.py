"""One level of a slide as an array-like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.tiles import TILE_PX

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_xt.pyramid import Pyramid

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Level"]


class Level:
    """Array-like of shape (height_px, width_px, 3), uint8.

    Indexing with ints and slices reads what is needed through the pyramid's cache; a place
    that can't be read comes back hatched, so drawing never fails.

    Args:
        pyramid: The slide.
        index: Which of its levels.
        width_px: In this level's px.
        height_px: In this level's px.

    Attributes:
        chunks: The tile that is read at once; napari widens its view to these.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, pyramid: Pyramid, index: int, width_px: int, height_px: int) -> None:
        self.pyramid = pyramid
        self.shape = (height_px, width_px, 3)
        self.chunks = (TILE_PX, TILE_PX, 3)
        self._index = index

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes if it were decoded as a whole."""
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<Level {self._index} of {self.pyramid.info.name}: {self.shape}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> Pixels:
        row_key, column_key, channel_key = _three_keys(key)
        rows, columns = _span(row_key, self.shape[0]), _span(column_key, self.shape[1])
        if not rows or not columns:
            block = np.empty((len(rows), len(columns), 3), np.uint8)
        else:
            y0, y1 = min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1
            x0, x1 = min(columns[0], columns[-1]), max(columns[0], columns[-1]) + 1
            block = self.pyramid.read(self._index, x0, y0, x1, y1)
            if (rows.step, columns.step) != (1, 1):
                block = block[np.ix_(np.array(rows) - y0, np.array(columns) - x0)]
        block = block[:, :, channel_key]
        if not isinstance(column_key, slice):
            block = block[:, 0]
        return block[0] if not isinstance(row_key, slice) else block


def _three_keys(key: Any) -> tuple[Any, Any, Any]:
    keys = key if isinstance(key, tuple) else (key,)
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys = keys[:at] + (slice(None),) * (4 - len(keys)) + keys[at + 1 :]
    if len(keys) > 3:
        raise IndexError(f"a level has 3 axes (y, x, colour), got {len(keys)} indices")
    rows, columns, channels = (*keys, *(slice(None),) * (3 - len(keys)))
    return rows, columns, channels


def _span(key: Any, size: int) -> range:
    """Indices that an int or slice picks from an axis of `size`."""
    if isinstance(key, slice):
        return range(size)[key]
    index = range(size)[key]  # raises IndexError as an array would
    return range(index, index + 1)
