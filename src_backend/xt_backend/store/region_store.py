"""The region store: tokens of one slide's regions under one encoder's numerics.

A store is the folder ``<cache>/<2 digits>/<key digest>/`` of shards, each published whole, and an
index that describes the folder. Rows are addressed by lattice cell. The shards alone decide what
is there: the index may be lost or stale. Rows are trusted only once the shard's whole content
agrees with its digest. A damaged shard is moved aside, and its rows are then simply not there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import StoreCorruptError, StoreError, StoreVersionError
from xt_backend.keys import RegionStatus, RunFile, StoreH5
from xt_backend.publishing import make_folder, sweep_partials
from xt_backend.store.row_table import RowTable
from xt_backend.store.shard import SHARD_BYTES, Shard, read_shard, write_shard
from xt_backend.store.store_index import read_index, store_folder, write_index
from xt_backend.store.store_key import StoreKey

__all__ = ["RegionStore"]

Cells = npt.NDArray[np.int32]
Features = npt.NDArray[np.float16]


class _ShardLostError(Exception):
    """A shard that was there turned out damaged or gone."""


class RegionStore:
    """Tokens by lattice cell, kept on disk. Made by `RegionStore.open`.

    Several threads and processes may use one store at the same time. Where two shards hold the
    same cell, the one whose name sorts last counts.

    Attributes:
        folder: The store's folder; made when the first rows are appended.
        key: What it is made from.
        problems: What was found damaged and what became of it, as sentences.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder = folder
        self.key = key
        self.problems: list[str] = []
        self._shards: dict[str, Shard] = {}
        self._ignored: set[str] = set()
        self._table: RowTable | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(cls, cache_dir: Path, key: StoreKey) -> RegionStore:
        """Open the store of a key; an absent one is empty.

        Args:
            cache_dir: The cache's folder.
            key: What the tokens are made from.

        Raises:
            StoreError: The folder holds a store of something else; names the first key that
                differs.
            StoreVersionError: A newer version wrote the store.
        """
        store = cls(store_folder(Path(cache_dir), key), key)
        sweep_partials(store.folder, time.time())
        store._check_index()
        store._refresh()
        with contextlib.suppress(OSError):  # the time of use, by which caches are pruned
            os.utime(store.folder / StoreH5.INDEX)
        return store

    def __len__(self) -> int:
        """The number of cells that are there."""
        with self._lock:
            self._refresh()
            return len(self._rows())

    def has(self, cells: Cells) -> npt.NDArray[np.bool_]:
        """Which cells are there, without reading features.

        Args:
            cells: (n, 2) int, (col, row).

        Returns:
            (n,) bool. A shard that turns out damaged in `load` takes rows away again.
        """
        with self._lock:
            self._refresh()
            return self._rows().find(cells)[2]

    def load(self, cells: Cells) -> tuple[Features, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read the tokens of cells, whichever process stored them.

        Args:
            cells: (n, 2) int, (col, row), in any order.

        Returns:
            features: (n, kk, D) float16, NaN where nothing was found; (n, 0, 0) while the store
                is empty.
            status: (n,) uint8, `RegionStatus.SKIPPED` where nothing was found.
            found: (n,) bool.

        Raises:
            StoreVersionError: A newer version has added to the store.
        """
        with self._lock:
            while True:
                self._refresh()
                shard_of, row_of, found = self._rows().find(cells)
                try:
                    return *self._gather(shard_of, row_of, found), found
                except _ShardLostError:
                    # Other shards may hold the same cells.
                    continue

    def append(self, cells: Cells, features: Features, status: npt.NDArray[np.uint8]) -> int:
        """Store one finished block of work.

        Only rows that can be scored (ok, edge) are kept: those with a read error are tried again
        by the next run. Append hundreds of rows at a time, as each call makes a file.

        Args:
            cells: (n, 2) int, (col, row).
            features: (n, kk, D) float16, the same kk and D for the whole store.
            status: (n,) uint8, `RegionStatus`.

        Returns:
            The number of rows that were kept.

        Raises:
            StoreError: The arrays do not fit each other or the store.
            NoSpaceError: The disk is full; what was there before is intact.
            OutputError: The folder cannot be written.
        """
        cells = np.asarray(cells, np.int32)
        status = np.asarray(status, np.uint8)
        if (
            features.dtype != np.float16
            or features.ndim != 3
            or cells.shape != (len(features), 2)
            or status.shape != (len(features),)
        ):
            raise StoreError(
                f"Cannot store features {features.dtype} {features.shape} with cells "
                f"{cells.shape} and status {status.shape}",
                "Pass (n, kk, D) float16, (n, 2) and (n,)",
            )
        keep = np.isin(status, [s for s in RegionStatus if s.scored])
        cells, features, status = cells[keep], features[keep], status[keep]
        if not len(cells):
            return 0
        with self._lock:
            self._check_tokens(features)
            make_folder(self.folder)
            per_shard = max(1, SHARD_BYTES // max(1, features[0].nbytes))
            for first in range(0, len(cells), per_shard):
                part = slice(first, first + per_shard)
                shard = write_shard(
                    self.folder, self.key, cells[part], status[part], features[part]
                )
                self._ignored.discard(shard.path.name)
                self._shards[shard.path.name] = shard
                self._table = None
            rows = {name: len(self._shards[name]) for name in sorted(self._shards)}
            write_index(self.folder, self.key, rows)
        return len(cells)

    def verify(self) -> list[str]:
        """Read everything, move damaged shards aside, and return all `problems`."""
        with self._lock:
            self._refresh()
            for shard in list(self._shards.values()):
                shard.verified = False
                with contextlib.suppress(_ShardLostError):
                    self._read(shard, 0, len(shard))
            return list(self.problems)

    def _gather(
        self,
        shard_of: npt.NDArray[np.int64],
        row_of: npt.NDArray[np.int64],
        found: npt.NDArray[np.bool_],
    ) -> tuple[Features, npt.NDArray[np.uint8]]:
        shards = [self._shards[name] for name in sorted(self._shards)]
        tokens = shards[0].tokens if shards else (0, 0)
        features = np.empty((len(found), *tokens), np.float16)
        features[~found] = np.nan
        status = np.full(len(found), RegionStatus.SKIPPED, np.uint8)
        order = np.lexsort((row_of, shard_of))
        order = order[found[order]]
        starts = np.flatnonzero(np.diff(shard_of[order], prepend=-1))
        for places in np.split(order, starts[1:]):
            if not len(places):
                continue
            shard, rows = shards[shard_of[places[0]]], row_of[places]
            slab = self._read(shard, int(rows[0]), int(rows[-1]) + 1)
            in_order = len(slab) == len(rows) and bool((np.diff(rows) == 1).all())
            features[places] = slab if in_order else slab[rows - rows[0]]
            status[places] = shard.status[rows]
        return features, status

    def _read(self, shard: Shard, first: int, last: int) -> Features:
        try:
            return shard.features(first, last)
        except StoreError as error:
            self._set_aside(shard.path, error)
            raise _ShardLostError from error

    def _rows(self) -> RowTable:
        if self._table is None:
            self._table = RowTable.of([self._shards[name] for name in sorted(self._shards)])
        return self._table

    def _refresh(self) -> None:
        """Take up shards that others have added, and forget those that are gone."""
        try:
            names = {p.name for p in self.folder.iterdir() if p.suffix == StoreH5.SHARD_SUFFIX}
        except (FileNotFoundError, NotADirectoryError):
            names = set()
        except OSError as error:
            raise StoreError(
                f"The store {self.folder.name[:12]} cannot be read ({error.strerror})",
                "Check the permissions of the cache, or use another with --cache",
            ) from error
        for name in self._shards.keys() - names:
            del self._shards[name]
            self._table = None
        for name in sorted(names - self._shards.keys() - self._ignored):
            try:
                shard = read_shard(self.folder / name, self.key)
                if self._shards and shard.tokens != self._tokens():
                    raise StoreCorruptError(
                        f"{name} holds tokens {shard.tokens}, the others {self._tokens()}"
                    )
            except StoreError as error:
                self._set_aside(self.folder / name, error)
            else:
                self._shards[name] = shard
                self._table = None

    def _set_aside(self, path: Path, error: StoreError) -> None:
        """Stop using a shard; move it aside if it is its content that is wrong."""
        self._shards.pop(path.name, None)
        self._table = None
        if isinstance(error, StoreVersionError):
            raise error
        if not path.exists():  # pruned by another process: nothing is wrong
            return
        fate = "not used"
        if isinstance(error, StoreCorruptError):
            try:
                os.replace(path, path.with_name(path.name + RunFile.BAD))
                fate = f"moved aside as {path.name}{RunFile.BAD}"
            except OSError as refused:
                fate = f"not used, and not moved aside either ({refused.strerror})"
        if path.exists():
            self._ignored.add(path.name)
        self._report(f"{error.cause}; {fate}, its regions are encoded again")

    def _report(self, problem: str) -> None:
        self.problems.append(f"Store {self.folder.name[:12]}: {problem}")

    def _tokens(self) -> tuple[int, int]:
        return next(iter(self._shards.values())).tokens

    def _check_tokens(self, features: Features) -> None:
        if self._shards and features.shape[1:] != self._tokens():
            raise StoreError(
                f"Cannot store tokens {features.shape[1:]} in a store of {self._tokens()}",
                "The key must tell apart encoders with other tokens",
            )

    def _check_index(self) -> None:
        try:
            index = read_index(self.folder)
        except StoreCorruptError as error:
            self._report(f"{error.cause}; the shards are read without it")
            return
        if index is None:
            return
        if different := self.key.differences(index.key):
            raise StoreError(
                f"The store {self.folder.name[:12]} was made from something else: {different[0]}",
                "Delete that store or use another cache with --cache",
            )
        if gone := [name for name in index.shards if not (self.folder / name).exists()]:
            self._report(
                f"{len(gone)} of {len(index.shards)} shards are gone; "
                "their regions are encoded again"
            )
