"""Features of a slide's regions: from the region store, else read, encoded and stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RegionStatus
from xt_backend.slides import Lattice, Reader, RegionBatch, Slide
from xt_backend.store import RegionStore, StoreKey

from .blocks import StoreWriter
from .encoder import BatchEncoder
from .encoders import Pending
from .preparation import Prepared
from .stages import Stages

__all__ = ["READ_BATCH", "Extracted", "extract", "open_store"]

READ_BATCH = 16
"""Regions read and encoded between two looks at whether the run was cancelled."""

CACHED_ROWS = 8192
"""Stored regions handed on at once, to bound memory."""


@dataclass(frozen=True)
class Extracted:
    """Some regions with their features.

    Attributes:
        rows: (n,) int64, places in the list of cells.
        features: (n, k*k, D) float16; zeros where status is not scored.
        status: (n,) uint8 of `RegionStatus`.
        cached: Whether they came out of the store.
    """

    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.float16]
    status: npt.NDArray[np.uint8]
    cached: bool


def open_store(
    prepared: Prepared, encoder: BatchEncoder, folder: Path | None
) -> RegionStore | None:
    """The region store of a slide under an encoder's numerics; None without a folder."""
    if folder is None:
        return None
    numerics = encoder.numerics()
    if prepared.normaliser is not None:
        numerics["stain"] = prepared.normaliser.numerics()
    lattice = {**prepared.lattice.to_dict(), "input_px": numerics["input_px"]}
    key = StoreKey(prepared.slide.identity(), lattice, numerics)
    return RegionStore.open(folder, key)


def extract(
    slide: Slide,
    lattice: Lattice,
    cells: npt.NDArray[np.int32],
    encoder: BatchEncoder,
    store: RegionStore | None,
    *,
    workers: int = 2,
    batch_size: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    stages: Stages | None = None,
    normalise: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]] | None = None,
) -> Iterator[Extracted]:
    """Yield the features of every cell, stored ones first, each cell once.

    Stops early when `cancelled`; what was encoded by then is stored.

    Args:
        slide: Open.
        lattice: Of the slide.
        cells: (n, 2) int32 (col, row).
        encoder: On its device.
        store: Where features are kept; None keeps nothing.
        workers: Reader threads.
        batch_size: Regions read and encoded between two looks at `cancelled`; None for as many as
            the encoder computes together, and not fewer than `READ_BATCH`.
        cancelled: Asked after every batch.
        stages: Told how long reading, waiting and writing took.
        normalise: Changes pixels (n, R, R, 3) before they are encoded; the store's key has to tell.
    """
    missing = np.arange(len(cells), dtype=np.int64)
    if store is not None:
        left = []
        for first in range(0, len(cells), CACHED_ROWS):
            if cancelled():
                return
            rows = missing[first : first + CACHED_ROWS]
            features, status, found = store.load(cells[rows])
            if found.any():
                yield Extracted(rows[found], features[found], status[found], cached=True)
            left.append(rows[~found])
        missing = np.concatenate(left) if left else missing
    if not len(missing) or cancelled():
        return
    stages = Stages() if stages is None else stages
    size = batch_size or max(READ_BATCH, encoder.backend.batch)
    reader = Reader(slide, lattice, cells[missing], batch_size=size, threads=workers)
    # While a device computes, the batch before is handed on and the next one fetched.
    waiting: deque[tuple[RegionBatch, Pending | None]] = deque()
    with StoreWriter(store, stages) as writer:
        try:
            for batch in reader:
                waiting.append((batch, _start(encoder, batch, normalise)))
                if len(waiting) > encoder.ahead:
                    yield _finish(*waiting.popleft(), cells, missing, writer)
                if cancelled():
                    break
            while waiting:
                yield _finish(*waiting.popleft(), cells, missing, writer)
        finally:
            reader.close()
            stages.add(reader.seconds())


def _start(
    encoder: BatchEncoder,
    batch: RegionBatch,
    normalise: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]] | None,
) -> Pending | None:
    good = batch.status != RegionStatus.READ_ERROR
    if not good.any():
        return None
    pixels = batch.pixels if good.all() else batch.pixels[good]
    return encoder.start(pixels if normalise is None else normalise(pixels))


def _finish(
    batch: RegionBatch,
    pending: Pending | None,
    cells: npt.NDArray[np.int32],
    missing: npt.NDArray[np.int64],
    writer: StoreWriter,
) -> Extracted:
    rows = missing[batch.rows]
    good = batch.status != RegionStatus.READ_ERROR
    encoded = None
    if pending is not None:
        encoded = pending.result()
        writer.add(cells[rows[good]], encoded, batch.status[good])
    return Extracted(rows, _spread(encoded, good), batch.status, cached=False)


def _spread(
    encoded: npt.NDArray[np.float16] | None, good: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float16]:
    """Put the encoded rows in their places, zeros elsewhere."""
    if encoded is None:
        return np.zeros((len(good), 0, 0), np.float16)
    features = np.zeros((len(good), *encoded.shape[1:]), np.float16)
    features[good] = encoded
    return features
