"""Looking at the picture of regions while they are read: blurred, folded, marked with a pen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xt_backend.keys import Doubt, RegionStatus, StoreH5
from xt_backend.slides import Reader, RegionBatch, quality
from xt_backend.store import RegionStore, StoreKey
from xt_backend.wording import counted

from .blocks import SHARD_ROWS, StoreWriter
from .preparation import Prepared
from .stages import Stages

__all__ = ["Inspection", "Measures", "Watch", "doubts_note"]

Measures: TypeAlias = npt.NDArray[np.float16]

_READ = 64
_ROWS = 8 * SHARD_ROWS
"""Regions in a shard: their measures are a few bytes each."""


class Inspection:
    """The quality of a slide's regions, kept beside the region stores of all encoders.

    What is kept depends on the slide and its lattice only, so that no run with another model and
    no second run has to read for it.

    Args:
        prepared: The slide with its regions.
        folder: The cache; None keeps nothing.
        workers: Reader threads, for regions whose features are kept but not their measures.
        reads: False reads no region only to measure it: it is NaN where nothing is kept.
    """

    def __init__(
        self, prepared: Prepared, folder: Path | None, workers: int, *, reads: bool = True
    ) -> None:
        self.prepared, self.workers, self.reads = prepared, workers, reads
        lattice = prepared.lattice
        self._mpp = lattice.model_mpp, max(lattice.slide_mpp)
        self.store: RegionStore | None = None
        if folder is not None:
            numerics = {"measures": list(quality.MEASURES), "version": quality.VERSION}
            key = StoreKey(prepared.slide.identity(), lattice.to_dict(), numerics)
            self.store = RegionStore.open(folder / StoreH5.QUALITY, key)

    @cached_property
    def _typical(self) -> float | None:
        return quality.typical_density(self.prepared.thumbnail, self.prepared.tissue)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with the measures that are kept, as sentences."""
        return tuple(self.store.problems) if self.store is not None else ()

    def measure(self, pixels: npt.NDArray[np.uint8]) -> Measures:
        """(n, 4) float16 of (n, R, R, 3) uint8, see `quality.measure`."""
        return quality.measure(pixels, *self._mpp)

    def judge(self, measures: Measures) -> npt.NDArray[np.uint8]:
        """(n,) uint8, `Doubt`; NaN is not measured."""
        return quality.judge(measures, self._typical)

    def watch(self, stages: Stages, cancelled: Callable[[], bool] = lambda: False) -> Watch:
        """Measure some regions, in a ``with`` block."""
        return Watch(self, stages, cancelled)


class Watch:
    """Measures regions in a thread, beside the encoder; made by `Inspection.watch`."""

    def __init__(
        self, inspection: Inspection, stages: Stages, cancelled: Callable[[], bool]
    ) -> None:
        self._inspection, self._stages, self._cancelled = inspection, stages, cancelled
        self._writer = StoreWriter(inspection.store, stages, rows=_ROWS)
        self._pool = ThreadPoolExecutor(1, "xt-quality")

    def __enter__(self) -> Watch:
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._writer.__exit__(kind, error, trace)

    def start(self, batch: RegionBatch) -> Future[Measures]:
        """Begin to measure regions as they were read."""
        return self._pool.submit(self._measured, batch)

    def keep(
        self,
        cells: npt.NDArray[np.int32],
        measures: Measures,
        status: npt.NDArray[np.uint8],
    ) -> None:
        """Store what was measured of some regions; those with a read error are NaN, and not."""
        store = self._inspection.store
        if store is not None and not store.has(cells).all():
            self._writer.add(cells, measures[:, None], status)

    def look_up(self, cells: npt.NDArray[np.int32], status: npt.NDArray[np.uint8]) -> Measures:
        """(n, 4) of regions whose features are known; what is not kept of them is read again.

        NaN where they cannot or shall not be read, or where the run was cancelled before.
        """
        measures = np.full((len(cells), len(quality.MEASURES)), np.nan, np.float16)
        store = self._inspection.store
        if store is not None and len(store):
            kept, _, found = store.load(cells)
            measures[found] = kept[found, 0]
        else:
            found = np.zeros(len(cells), bool)
        missing = np.flatnonzero(~found)
        if len(missing) and self._inspection.reads:
            self._read(cells, missing, status, measures)
        return measures

    def _read(
        self,
        cells: npt.NDArray[np.int32],
        missing: npt.NDArray[np.int64],
        status: npt.NDArray[np.uint8],
        out: Measures,
    ) -> None:
        prepared = self._inspection.prepared
        with Reader(
            prepared.slide,
            prepared.lattice,
            cells[missing],
            batch_size=_READ,
            threads=self._inspection.workers,
        ) as reader:
            for batch in reader:
                rows = missing[batch.rows]
                out[rows] = self._measured(batch)
                self.keep(cells[rows], out[rows], status[rows])
                if self._cancelled():
                    break
            self._stages.add(reader.seconds())

    def _measured(self, batch: RegionBatch) -> Measures:
        measures = self._inspection.measure(batch.pixels)
        measures[batch.status == RegionStatus.READ_ERROR] = np.nan
        return measures


def doubts_note(doubts: npt.NDArray[np.uint8], *, excluded: bool) -> str:
    """What to tell of a slide's doubtful regions; empty where there are none.

    Args:
        doubts: (n,) `Doubt`.
        excluded: Whether they were left out.
    """
    known = doubts[(doubts & Doubt.NOT_MEASURED) == 0]
    n = int((known > 0).sum())
    if not n:
        return ""
    kinds = [doubt for doubt in Doubt if doubt is not Doubt.NOT_MEASURED]
    counts = {doubt.label: int(((known & doubt) > 0).sum()) for doubt in kinds}
    which = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    if excluded:
        what = f"{'was' if n == 1 else 'were'} left out as doubtful"
    else:
        what = f"{'looks' if n == 1 else 'look'} doubtful"
    return f"{counted(n, 'region')} {what} ({which})"
