"""Encoded regions on their way into the region store, written beside all else."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xt_backend.errors import XTError
from xt_backend.store import RegionStore

from .stages import Stages

__all__ = ["BLOCK_ROWS", "SHARD_ROWS", "StoreWriter"]

_log = logging.getLogger(__name__)

BLOCK_ROWS = 256
"""Regions that a kill can lose, besides those that the encoder has in hand."""

SHARD_ROWS = BLOCK_ROWS // 2
"""Regions in a shard of the store: one is being written while the next is gathered."""

Part: TypeAlias = tuple[npt.NDArray[np.int32], npt.NDArray[np.float16], npt.NDArray[np.uint8]]


class StoreWriter:
    """Gathers rows and stores them in shards; one shard is being written at a time.

    Leaving the ``with`` block stores the rest, also after an error, and waits for it.

    Args:
        store: Where rows go; None keeps nothing.
        stages: Told how long writing took, and waiting for it.
        rows: Regions in a shard.
    """

    def __init__(
        self, store: RegionStore | None, stages: Stages, *, rows: int = SHARD_ROWS
    ) -> None:
        self._store, self._stages, self._rows = store, stages, rows
        self._parts: list[Part] = []
        self._n = 0
        self._pool = ThreadPoolExecutor(1, "xt-store") if store is not None else None
        self._writing: Future[None] | None = None
        self._complete = False

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._flush()
            self._wait()
            if self._complete and error is None:
                self._join()
        finally:
            if self._pool is not None:
                self._pool.shutdown()

    def complete(self) -> None:
        """Nothing more will come: small shards are put together when the rest is stored.

        Not to be called by a run that was cancelled, which is to end within a second.
        """
        self._complete = True

    def add(self, *part: *Part) -> None:
        """Take rows; those with a feature that is not finite are left out.

        Args:
            part: Cells (n, 2) int32, features (n, k*k, D) float16, status (n,) uint8.

        Raises:
            StoreError: An earlier block could not be stored.
            OutputError: Likewise.
        """
        if self._pool is None:
            return
        # What is no number is not kept, so that the next run tries again.
        cells, features, status = part
        finite = np.isfinite(features).all(axis=(1, 2))
        if not finite.all():
            part = (cells[finite], features[finite], status[finite])
        if not len(part[0]):
            return
        self._parts.append(part)
        self._n += len(part[0])
        if self._n >= self._rows:
            self._flush()

    def _flush(self) -> None:
        self._wait()
        if self._pool is None or not self._parts:
            return
        cells, features, status = (np.concatenate(one) for one in zip(*self._parts, strict=True))
        self._parts, self._n = [], 0
        self._writing = self._pool.submit(self._write, (cells, features, status))

    def _write(self, block: Part) -> None:
        if self._store is not None:
            with self._stages.timed("store"):
                self._store.append(*block)

    def _join(self) -> None:
        """Make the next run quick; whatever is in its way, the rows are there."""
        if self._store is not None:
            with self._stages.timed("write"):
                try:
                    self._store.join()
                except XTError as problem:
                    _log.warning("the region store stays in small shards: %s", problem)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            with self._stages.timed("write"):
                writing.result()
