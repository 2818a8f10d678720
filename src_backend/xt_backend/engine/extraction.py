"""Features of a slide's regions: from the region store, else read, encoded and stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import FeaturesMeta, RegionStatus, RunH5, RunMeta
from xt_backend.slides import Lattice, Reader, RegionBatch, Slide
from xt_backend.store import RegionStore, ScoreMap, StoreKey

from .blocks import StoreWriter
from .encoder import BatchEncoder
from .encoders import Pixels
from .inspection import Inspection, Measures, Watch
from .preparation import Prepared
from .remote import Looked, NotWantedError, RemoteRun
from .stages import Stages

__all__ = [
    "READ_BATCH",
    "Extracted",
    "extract",
    "key_of_run",
    "open_store",
    "store_numerics",
]

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
        measures: (n, 4) float16 of `Inspection`, NaN where unreadable; None where not asked for.
    """

    rows: npt.NDArray[np.int64]
    features: npt.NDArray[np.float16]
    status: npt.NDArray[np.uint8]
    cached: bool
    measures: Measures | None = None


def open_store(
    prepared: Prepared, encoder: BatchEncoder, folder: Path | None
) -> RegionStore | None:
    """The region store of a slide under an encoder's numerics; None without a folder."""
    if folder is None:
        return None
    numerics = store_numerics(prepared, encoder)
    key = _store_key(prepared.slide.identity(), prepared.lattice, numerics)
    return RegionStore.open(folder, key)


def store_numerics(prepared: Prepared, encoder: BatchEncoder) -> dict[str, Any]:
    """What the features of a slide depend on besides its pixels and its lattice."""
    numerics = encoder.numerics()
    if prepared.normaliser is not None:
        numerics["stain"] = prepared.normaliser.numerics()
    return numerics


def _store_key(identity: str, lattice: Lattice, numerics: Mapping[str, Any]) -> StoreKey:
    """The key of a slide's region store.

    Args:
        identity: Of the slide's content.
        lattice: Of the slide.
        numerics: As of `store_numerics`.
    """
    return StoreKey(identity, {**lattice.to_dict(), "input_px": numerics["input_px"]}, numerics)


def key_of_run(score_map: ScoreMap) -> StoreKey | None:
    """The key of the region store for the features of a run, whether they were kept or not.

    None where the run does not say, as those of older versions.

    Args:
        score_map: Of the run, from memory or from its file.
    """
    meta = score_map.run_meta
    if RunMeta.FEATURES not in meta or RunH5.META_SLIDE_IDENTITY not in meta:
        return None
    numerics = meta[RunMeta.FEATURES][FeaturesMeta.NUMERICS]
    return _store_key(meta[RunH5.META_SLIDE_IDENTITY], score_map.lattice, numerics)


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
    inspection: Inspection | None = None,
    remote: RemoteRun | None = None,
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
            keep the encoder busy, and not fewer than `READ_BATCH`.
        cancelled: Asked after every batch.
        stages: Told where the time went.
        normalise: Changes pixels (n, R, R, 3) before they are encoded; the store's key has to tell.
        inspection: Measures the picture of every region; None measures nothing.
        remote: Reads, normalises and measures the regions too, with the pixels where it is; None
            lets this machine read.
    """
    stages = Stages() if stages is None else stages
    with ExitStack() as stack:
        watch = None
        if inspection is not None:
            watch = stack.enter_context(inspection.watch(stages, cancelled))
        missing = np.arange(len(cells), dtype=np.int64)
        if store is not None:
            left = []
            for first in range(0, len(cells), CACHED_ROWS):
                if cancelled():
                    return
                rows = missing[first : first + CACHED_ROWS]
                with stages.timed("reload"):
                    features, status, found = store.load(cells[rows])
                if found.any():
                    kept = rows[found]
                    seen = None if watch is None else watch.look_up(cells[kept], status[found])
                    yield Extracted(kept, features[found], status[found], True, seen)
                left.append(rows[~found])
            missing = np.concatenate(left) if left else missing
        if not len(missing) or cancelled():
            return
        seconds_before, load_before = encoder.seconds, encoder.seconds_load
        size = batch_size or max(READ_BATCH, encoder.in_flight)
        writer = stack.enter_context(StoreWriter(store, stages))
        parts: Iterator[_InHand]
        if remote is not None:
            ahead, reader = remote.ahead, None
            found_there = remote.parts(cells[missing], watch is not None)
            parts = (_InHand(missing[rows], looked) for rows, looked in found_there)
        else:
            ahead = encoder.ahead
            reader = Reader(slide, lattice, cells[missing], batch_size=size, threads=workers)
            begin = partial(_begin, encoder, normalise, stages, watch)
            parts = (_InHand(missing[batch.rows], begin(batch)) for batch in reader)
        # While a device computes, the batch before is handed on and the next one fetched.
        waiting: deque[_InHand] = deque()
        try:
            for one in parts:
                waiting.append(one)
                if len(waiting) > ahead:
                    yield waiting.popleft().finish(cells, writer, watch)
                if cancelled():
                    break
            while waiting:
                yield waiting.popleft().finish(cells, writer, watch)
            if not cancelled():
                writer.complete()
        except NotWantedError:
            return  # cancelled, and another machine has not answered yet
        finally:
            if reader is not None:
                reader.close()
                stages.add(reader.seconds())
            stages.add(
                {
                    "encode": encoder.seconds - seconds_before,
                    "load": encoder.seconds_load - load_before,
                }
            )


@dataclass(frozen=True)
class _InHand:
    """Regions that are being encoded and measured.

    Attributes:
        rows: (n,) int64, places in the list of cells.
        looked: Waits for them.
    """

    rows: npt.NDArray[np.int64]
    looked: Callable[[], Looked]

    def finish(
        self, cells: npt.NDArray[np.int32], writer: StoreWriter, watch: Watch | None
    ) -> Extracted:
        """Wait for them, and hand them to those who store them."""
        looked, rows = self.looked(), self.rows
        status, encoded, measures = looked.status, looked.features, looked.measures
        good = status != RegionStatus.READ_ERROR
        if encoded is not None:
            writer.add(cells[rows[good]], encoded, status[good])
        if measures is not None and watch is not None:
            watch.keep(cells[rows], measures, status)
        return Extracted(rows, _spread(encoded, good), status, False, measures)


def _begin(
    encoder: BatchEncoder,
    normalise: Callable[[Pixels], Pixels] | None,
    stages: Stages,
    watch: Watch | None,
    batch: RegionBatch,
) -> Callable[[], Looked]:
    """Begin to measure and encode what was read, and give what waits for it."""
    measured = None if watch is None else watch.start(batch)
    good = batch.status != RegionStatus.READ_ERROR
    pending = None
    if good.any():
        pixels = batch.pixels if good.all() else batch.pixels[good]
        if normalise is not None:
            with stages.timed("stain"):
                pixels = normalise(pixels)
        pending = encoder.start(pixels)

    def looked() -> Looked:
        encoded = None if pending is None else pending.result()
        return Looked(batch.status, encoded, None if measured is None else measured.result())

    return looked


def _spread(
    encoded: npt.NDArray[np.float16] | None, good: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float16]:
    """Put the encoded rows in their places, zeros elsewhere."""
    if encoded is None:
        return np.zeros((len(good), 0, 0), np.float16)
    features = np.zeros((len(good), *encoded.shape[1:]), np.float16)
    features[good] = encoded
    return features
