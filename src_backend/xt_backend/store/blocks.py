"""Arrays that are too large to be held at once, made or taken some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_BYTES", "Blocks", "blocks_of", "parts"]

BLOCK_BYTES = 16 << 20
"""About so much is held at once."""
_STEP_ROWS = 256
"""A block has a multiple of so many rows, to end where chunks of files do."""


@dataclass(frozen=True)
class Blocks:
    """An array whose rows come in blocks, one after the other.

    Attributes:
        shape: Of the whole; the first axis is that of the rows.
        dtype: Of the whole.
        make: Gives the blocks from the first row on, each time anew.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[], Iterator[npt.NDArray[Any]]]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return self.make()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of the whole in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> npt.NDArray[Any]:
        """The whole at once."""
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self])


def blocks_of(data: npt.NDArray[Any] | Blocks) -> Iterator[npt.NDArray[Any]]:
    """The blocks of what may be an array, which is one block."""
    if isinstance(data, Blocks):
        yield from data
    elif data.size:
        yield data


def parts(rows: npt.NDArray[np.int64], row_bytes: int) -> Iterator[npt.NDArray[np.int64]]:
    """Cut places of rows into parts of about `BLOCK_BYTES`, and a multiple of 256 rows.

    Args:
        rows: (n,) places, ascending.
        row_bytes: Size of a row.
    """
    step = max(1, BLOCK_BYTES // max(1, row_bytes * _STEP_ROWS)) * _STEP_ROWS
    for first in range(0, len(rows), step):
        yield rows[first : first + step]
