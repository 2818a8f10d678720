"""The region store: tokens of one slide's regions under one encoder's numerics.

A store is the folder ``<cache>/<2 digits>/<key digest>/`` of shards, each published whole, and an
index that describes the folder. Rows are addressed by lattice cell. The shards alone decide what
is there: the index may be lost or stale. Rows are trusted only once the shard's whole content
agrees with its digest. A damaged shard is moved aside, and its rows are then simply not there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import StoreError
from xt_backend.keys import RegionStatus, StoreH5
from xt_backend.publishing import make_folder, sweep_partials
from xt_backend.store.joining import portions, small_shards
from xt_backend.store.shard import SHARD_BYTES, Shard, write_shard
from xt_backend.store.shard_folder import ShardFolder
from xt_backend.store.store_index import store_folder
from xt_backend.store.store_key import StoreKey

__all__ = ["RegionStore"]

_READERS = min(4, os.cpu_count() or 1)

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
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self.folder = folder
        self.key = key
        self._known = ShardFolder(folder, key)
        self._lock = threading.RLock()

    @property
    def problems(self) -> list[str]:
        """What was found damaged and what became of it, as sentences."""
        return self._known.problems

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
        store._known.check_index()
        store._known.refresh()
        with contextlib.suppress(OSError):  # the time of use, by which caches are pruned
            os.utime(store.folder / StoreH5.INDEX)
        return store

    def __len__(self) -> int:
        """The number of cells that are there."""
        with self._lock:
            self._known.refresh()
            return len(self._known.rows)

    def has(self, cells: Cells) -> npt.NDArray[np.bool_]:
        """Which cells are there, without reading features.

        Args:
            cells: (n, 2) int, (col, row).

        Returns:
            (n,) bool. A shard that turns out damaged in `load` takes rows away again.
        """
        with self._lock:
            self._known.refresh()
            return self._known.rows.find(cells)[2]

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
                self._known.refresh()
                shard_of, row_of, found = self._known.rows.find(cells)
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
                self._known.add(shard)
            self._known.write_index()
        return len(cells)

    def join(self, fewest: int = 16) -> int:
        """Put small shards together, which are faster to open; the rows stay what they are.

        A kill leaves both, which is the same. Who reads meanwhile finds the rows again.

        Args:
            fewest: Small shards that are worth it.

        Returns:
            The number of shards that were put together.

        Raises:
            OutputError: The folder cannot be written.
        """
        with self._lock:
            self._known.refresh()
            small = small_shards(self._known.shards)
            if len(small) < fewest or not self._room_for(small):
                return 0
            try:
                made = list(self._joined(small))
            except _ShardLostError:  # its rows have to be made anew before anything is joined
                return 0
            for shard in made:
                self._known.add(shard)
            spent = [
                self._known.drop(name) for name in set(small) - {one.path.name for one in made}
            ]
            names = {shard.path.name for shard in spent}
            self._known.write_index(names)  # first, so that it never names what is gone
            for shard in spent:
                with contextlib.suppress(OSError):
                    shard.path.unlink(missing_ok=True)
            self._known.write_index()  # who appended meanwhile may have named them again
            return len(small)

    def _room_for(self, names: list[str]) -> bool:
        """Whether both can lie on the disk for a while, and what the run still writes as well."""
        wanted = 2 * sum(self._known.shards[name].features_bytes for name in names)
        try:
            return shutil.disk_usage(self.folder).free > wanted
        except OSError:
            return False

    def _joined(self, names: list[str]) -> Iterator[Shard]:
        for cells in portions(self._known.rows, self._known.shards, names):
            features, status = self._gather(*self._known.rows.find(cells))
            yield write_shard(self.folder, self.key, cells, status, features)

    def verify(self) -> list[str]:
        """Read everything, move damaged shards aside, and return all `problems`."""
        with self._lock:
            self._known.refresh()
            for shard in list(self._known.shards.values()):
                shard.verified = False
                try:
                    shard.features(0, len(shard))
                except StoreError as error:
                    self._known.set_aside(shard.path, error)
            return list(self.problems)

    def _gather(
        self,
        shard_of: npt.NDArray[np.int64],
        row_of: npt.NDArray[np.int64],
        found: npt.NDArray[np.bool_],
    ) -> tuple[Features, npt.NDArray[np.uint8]]:
        shards, tokens = self._known.in_order, self._known.tokens or (0, 0)
        features = np.empty((len(found), *tokens), np.float16)
        features[~found] = np.nan
        status = np.full(len(found), RegionStatus.SKIPPED, np.uint8)
        order = np.lexsort((row_of, shard_of))
        order = order[found[order]]
        starts = np.flatnonzero(np.diff(shard_of[order], prepend=-1))
        wanted = [
            (shards[shard_of[places[0]]], row_of[places], places)
            for places in np.split(order, starts[1:])
            if len(places)
        ]
        for shard, rows, places in wanted:
            status[places] = shard.status[rows]

        def fill(one: tuple[Shard, npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> None:
            shard, rows, places = one
            first, last = int(rows[0]), int(rows[-1]) + 1
            if _one_after_another(rows) and _one_after_another(places):
                shard.features(first, last, features[places[0] : places[-1] + 1])
            else:
                features[places] = shard.features(first, last)[rows - first]

        # While the digest of one shard is computed, the next is read.
        with ThreadPoolExecutor(_READERS) as pool:
            filled = [pool.submit(fill, one) for one in wanted]
            try:
                for (shard, _, _), done in zip(wanted, filled, strict=True):
                    try:
                        done.result()
                    except StoreError as error:
                        self._known.set_aside(shard.path, error)
                        raise _ShardLostError from error
            finally:
                pool.shutdown(cancel_futures=True)
        return features, status

    def _check_tokens(self, features: Features) -> None:
        known = self._known.tokens
        if known is not None and features.shape[1:] != known:
            raise StoreError(
                f"Cannot store tokens {features.shape[1:]} in a store of {known}",
                "The key must tell apart encoders with other tokens",
            )


def _one_after_another(places: npt.NDArray[np.int64]) -> bool:
    return bool((np.diff(places) == 1).all())
