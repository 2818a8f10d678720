"""Features of a slide's regions, wherever they lie, a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from xt_backend.errors import StoreError
from xt_backend.publishing import scratch
from xt_backend.store.blocks import Blocks, parts
from xt_backend.store.h5 import open_checked
from xt_backend.store.region_store import RegionStore

__all__ = ["FeatureRows", "FileRows", "ScratchRows", "SomeRows", "StoredRows", "in_blocks"]

Rows = npt.NDArray[np.int64]


class FeatureRows(Protocol):
    """(n, k*k, D) features, taken by rows in ascending order: an array, or what lies on a disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, k*k, D)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""

    def __getitem__(self, rows: Rows, /) -> npt.NDArray[Any]:
        """(m, k*k, D) of some rows."""


def in_blocks(features: FeatureRows) -> Blocks:
    """All rows of `features`, block by block."""

    def blocks() -> Iterator[npt.NDArray[Any]]:
        row_bytes = math.prod(features.shape[1:]) * features.dtype.itemsize
        for part in parts(np.arange(features.shape[0]), row_bytes):
            yield features[part]

    return Blocks(features.shape, features.dtype, blocks)


class ScratchRows:
    """Features in a nameless file while they are made; zeros where nothing was put.

    Args:
        file: Without a buffer, of zeros, as large as `shape` says.
        shape: (n, k*k, D).
    """

    dtype = np.dtype(np.float16)

    def __init__(self, file: IO[bytes], shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._file = file
        self._row_bytes = math.prod(shape[1:]) * self.dtype.itemsize

    @classmethod
    @contextmanager
    def made_in(cls, folder: Path, shape: tuple[int, int, int]) -> Iterator[ScratchRows]:
        """Have room for features in a folder, and give it back on leaving.

        Args:
            folder: On the disk that is to have the room.
            shape: (n, k*k, D).

        Raises:
            NoSpaceError: There is no room.
            OutputError: The folder cannot be written.
        """
        with scratch(folder, max(1, math.prod(shape) * cls.dtype.itemsize)) as file:
            yield cls(file, shape)

    def __setitem__(self, rows: Rows, values: npt.NDArray[np.float16]) -> None:
        """Put (m, k*k, D) into some rows."""
        for first, place in _runs(rows):
            self._file.seek(first * self._row_bytes)
            rest = np.ascontiguousarray(values[place]).data.cast("B")
            while rest:  # a file without a buffer may take a part only
                rest = rest[self._file.write(rest) :]

    def __getitem__(self, rows: Rows) -> npt.NDArray[np.float16]:
        """See `FeatureRows`."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for first, place in _runs(rows):
            self._file.seek(first * self._row_bytes)
            rest = found[place].data.cast("B")
            while n := self._file.readinto(rest):  # type: ignore[attr-defined]
                rest = rest[n:]
        return found


class StoredRows:
    """Features in a region store.

    Args:
        store: Where they are.
        cells: (n, 2) int32 (col, row) of all regions.
        wanted: (n,) bool, those that have features; the others read as zeros.
        tokens: (k*k, D) of a region.
    """

    dtype = np.dtype(np.float16)

    def __init__(
        self,
        store: RegionStore,
        cells: npt.NDArray[np.int32],
        wanted: npt.NDArray[np.bool_],
        tokens: tuple[int, int],
    ) -> None:
        self.shape = (len(cells), *tokens)
        self._store, self._cells, self._wanted = store, cells, wanted

    @property
    def n_missing(self) -> int:
        """Regions that should have features and are not in the store."""
        return int((~self._store.has(self._cells[self._wanted])).sum())

    def __getitem__(self, rows: Rows) -> npt.NDArray[np.float16]:
        """See `FeatureRows`.

        Raises:
            StoreError: Some are no longer there, or damaged.
        """
        found = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        wanted = self._wanted[rows]
        if wanted.any():
            loaded, _, there = self._store.load(self._cells[rows[wanted]])
            if not there.all():
                raise StoreError(
                    "Features in the cache are damaged or were pruned meanwhile",
                    "Score or encode the slide again",
                )
            found[wanted] = loaded
        return found


class SomeRows:
    """Features in memory of those regions that have any; the others read as zeros.

    Args:
        features: (m, k*k, D) in the order of the regions.
        wanted: (n,) bool, the m regions that have features.
    """

    def __init__(self, features: npt.NDArray[Any], wanted: npt.NDArray[np.bool_]) -> None:
        self.shape = (len(wanted), *features.shape[1:])
        self.dtype = features.dtype
        self._features, self._wanted = features, wanted
        self._places = np.cumsum(wanted) - 1

    def __getitem__(self, rows: Rows) -> npt.NDArray[Any]:
        """See `FeatureRows`."""
        found = np.zeros((len(rows), *self.shape[1:]), self.dtype)
        wanted = self._wanted[rows]
        found[wanted] = self._features[self._places[rows[wanted]]]
        return found


class FileRows:
    """Features in one dataset of an HDF5 file of our own.

    Args:
        path: The file.
        name: Of the dataset.
        shape: Of the dataset, (n, k*k, D).
        dtype: Of the dataset.
        budget_bytes: The most that all datasets of the file together may declare.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        budget_bytes: int,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._path, self._name, self._budget = path, name, budget_bytes

    def __getitem__(self, rows: Rows) -> npt.NDArray[Any]:
        """See `FeatureRows`.

        Raises:
            StoreCorruptError: The file is damaged.
            StoreError: It is gone.
        """
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        with open_checked(self._path, self._budget) as reader:
            for first, place in _runs(rows):
                last = first + place.stop - place.start
                reader.read(self._name, self.dtype, self.shape, slice(first, last), found[place])
        return found


def _runs(rows: Rows) -> Iterator[tuple[int, slice]]:
    """The first row of each run of rows that follow one another, and its place among them."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    for start, stop in zip([0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=True):
        if stop > start:
            yield int(rows[start]), slice(start, stop)
