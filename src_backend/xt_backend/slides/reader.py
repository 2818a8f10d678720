"""Regions of a slide in order, read ahead by threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.errors import RegionReadError, UsageError
from xt_backend.keys import RegionStatus
from xt_backend.slides.blocks import Block, make_blocks, union
from xt_backend.slides.lattice import Lattice
from xt_backend.slides.pixels import check_size
from xt_backend.slides.resample import Strip, make_plan, resample
from xt_backend.slides.slide import Slide
from xt_backend.slides.stopwatch import Stopwatch

__all__ = ["Reader", "RegionBatch"]

Pixels = npt.NDArray[np.uint8]
Status = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RegionBatch:
    """Consecutive regions.

    Attributes:
        rows: (n,) int64, their places in the `cells` that the reader was given.
        pixels: (n, region_px, region_px, 3) uint8 at the model's mpp; zeros where unreadable.
        status: (n,) uint8, a `RegionStatus` each: ok, edge or read_error.
    """

    rows: npt.NDArray[np.int64]
    pixels: Pixels
    status: Status


@dataclass(frozen=True)
class _Job:
    """A block to be read.

    Attributes:
        block: Which regions.
        batch: To which they belong.
        pixels: Their part of the batch's pixels.
        status: Their part of its status, as it is if they can be read.
    """

    block: Block
    batch: RegionBatch
    pixels: Pixels
    status: Status


class _Cancelled(Exception):
    """The reader was closed while a block was being read."""


class Reader:
    """Reads regions ahead and yields them in batches, in the order of `cells`.

    A region has the same bytes as ``slide.read(x0, y0, region_px, region_px, model_mpp)`` at the
    corner of its box, however many threads read and whatever else is read with it. Neighbours in
    one row of the lattice come from one read of the slide.

    Use it once, in a ``with`` block or to its end: both end its threads. Memory is bounded by
    `threads` and `batch_size`, not by the number of cells.

    Args:
        slide: An open slide.
        lattice: The slide's lattice.
        cells: (n, 2) int of (col, row).
        batch_size: Regions per batch; the last may be smaller.
        threads: Threads that read ahead; 0 reads in the caller's thread.

    Raises:
        UsageError: Cells outside the lattice, a lattice of another pixel size or slide, regions
            that are too large to read, or a number out of range.
    """

    def __init__(
        self,
        slide: Slide,
        lattice: Lattice,
        cells: npt.ArrayLike,
        *,
        batch_size: int,
        threads: int = 2,
    ) -> None:
        if batch_size < 1 or threads < 0:
            raise UsageError(
                f"batch size {batch_size} and {threads} threads",
                "Give a batch size of at least 1 and 0 or more threads",
            )
        self._cells = _checked_cells(lattice, cells)
        mpp = slide.require_mpp()
        if (mpp.x, mpp.y) != lattice.slide_mpp:
            raise UsageError(
                f"the lattice was made for {lattice.slide_mpp} um/px, the slide has "
                f"({mpp.x}, {mpp.y})",
                "Make the lattice from this slide's pixel size",
            )
        x, y = np.add(lattice.origin_px, lattice.extent_px)
        if x > slide.info.width_px or y > slide.info.height_px or min(lattice.origin_px) < 0:
            raise UsageError(
                "the lattice reaches beyond the slide", "Make the lattice from this slide's bounds"
            )
        self._pixels = slide.pixels
        self._size = lattice.region_px
        self._plan = make_plan(
            slide.pixels.levels, lattice.model_mpp / mpp.x, lattice.model_mpp / mpp.y
        )
        check_size(self._plan, self._size, self._size)
        self._boxes = lattice.boxes(self._cells)
        self._good = np.where(
            lattice.is_edge(self._cells), RegionStatus.EDGE, RegionStatus.OK
        ).astype(np.uint8)
        self._batch_size = batch_size
        self._pool = ThreadPoolExecutor(threads, "xt-reader") if threads else None
        self._ahead = threads + 2 if threads else 1
        self._closed = threading.Event()
        self._started = False
        self._lock = threading.Lock()
        self._seconds_read = 0.0
        self._seconds_waited = 0.0
        self._resampling = Stopwatch()
        self._decoded_before = self._pixels.seconds_decode

    def __len__(self) -> int:
        """Number of regions."""
        return len(self._cells)

    @property
    def seconds_read(self) -> float:
        """Time spent reading so far, s, summed over the threads."""
        with self._lock:
            return self._seconds_read

    @property
    def seconds_waited(self) -> float:
        """Time that the consumer has waited for pixels so far, s."""
        return self._seconds_waited

    def seconds(self) -> dict[str, float]:
        """Where the time has gone so far, s, the first three summed over the threads.

        ``read`` holds ``decode`` and ``resample``; ``decode`` is right while nobody else reads the
        slide. ``wait`` is the consumer's.
        """
        return {
            "read": self.seconds_read,
            "decode": self._pixels.seconds_decode - self._decoded_before,
            "resample": self._resampling.seconds,
            "wait": self._seconds_waited,
        }

    def __iter__(self) -> Iterator[RegionBatch]:
        """The batches; only once.

        Raises:
            UsageError: Iterated a second time, or closed before.
        """
        if self._started or self._closed.is_set():
            raise UsageError("this reader has been used up or closed", "Make a new one")
        self._started = True
        return self._batches()

    def close(self) -> None:
        """Stops reading and ends the iteration; waits for the pieces in hand, well below 1 s."""
        self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _batches(self) -> Iterator[RegionBatch]:
        try:
            for job in self._done_jobs():
                last = job.block.start + len(job.block.strips) - 1
                if last == job.batch.rows[-1]:
                    yield job.batch
        finally:
            self.close()

    def _done_jobs(self) -> Iterator[_Job]:
        """Jobs whose regions have been read, in order; those behind them are under way."""
        pending: deque[tuple[_Job, Future[None] | None]] = deque()
        jobs = self._jobs()
        while not self._closed.is_set():
            while len(pending) < self._ahead and (following := next(jobs, None)) is not None:
                run = None if self._pool is None else self._pool.submit(self._read, following)
                pending.append((following, run))
            if not pending:
                return
            job, run = pending.popleft()
            began = time.perf_counter()
            try:
                if run is None:
                    self._read(job)
                else:
                    run.result()
            except (_Cancelled, CancelledError):
                return
            self._seconds_waited += time.perf_counter() - began
            yield job

    def _jobs(self) -> Iterator[_Job]:
        """Blocks, and the batches that they fill: fresh ones, for the consumer may keep them."""
        n, size = len(self._cells), self._size
        batch: RegionBatch | None = None
        for block in make_blocks(
            self._plan, self._cells, self._boxes, size, max_members=self._batch_size
        ):
            if batch is None or block.start > batch.rows[-1]:
                rows = np.arange(block.start, min(block.start + self._batch_size, n))
                pixels = np.empty((len(rows), size, size, 3), np.uint8)
                batch = RegionBatch(rows, pixels, self._good[rows])
            at = block.start - int(batch.rows[0])
            part = slice(at, at + len(block.strips))
            yield _Job(block, batch, batch.pixels[part], batch.status[part])

    def _read(self, job: _Job) -> None:
        """Fills in the pixels and the status of a block."""
        began = time.perf_counter()
        block, pixels = job.block, job.pixels
        try:
            if len(block.strips) > 1 and not self._is_shared(block):
                try:
                    self._read_together(block, pixels)
                    return
                except RegionReadError:
                    # Only the regions that hold the bad place shall suffer.
                    pass
            for row, needs in enumerate(block.strips):
                try:
                    self._read_alone(needs, pixels[row])
                except RegionReadError:
                    pixels[row] = 0
                    job.status[row] = RegionStatus.READ_ERROR
        finally:
            with self._lock:
                self._seconds_read += time.perf_counter() - began

    def _read_together(self, block: Block, out: Pixels) -> None:
        self._check_open()
        windows = [strip.window for needs in block.strips for strip in needs]
        area = union(windows)
        raw = self._pixels.raw(self._plan, area)
        for row, needs in enumerate(block.strips):
            self._check_open()
            for strip in needs:
                window = strip.window
                left, top = window.x - area.x, window.y - area.y
                # Cut to the region's own window first: the filter must see the same numbers as
                # in a read of the region alone.
                own = raw[top : top + window.height, left : left + window.width]
                self._place(strip, own, out[row])

    def _read_alone(self, needs: tuple[Strip, ...], out: Pixels) -> None:
        for strip in needs:
            self._check_open()
            window = strip.window
            if self._plan.reduce == 1 and window.is_whole(self._size, strip.n_rows):
                rows = out[strip.row : strip.row + strip.n_rows]
                self._pixels.fill(self._plan.level, window.x, window.y, rows)
            else:
                self._place(strip, self._pixels.raw(self._plan, window), out)

    def _place(self, strip: Strip, raw: Pixels, out: Pixels) -> None:
        rows = slice(strip.row, strip.row + strip.n_rows)
        with self._resampling.running():
            out[rows] = resample(raw, self._plan, strip.window, self._size, strip.n_rows)

    def _is_shared(self, block: Block) -> bool:
        """Whether regions are copied from tiles that are decoded once, as they are.

        Then one read for all of them has nothing to save, and would be copied once more.
        """
        return (
            self._plan.reduce == 1
            and self._pixels.is_direct(self._plan.level)
            and all(
                strip.window.is_whole(self._size, strip.n_rows)
                for needs in block.strips
                for strip in needs
            )
        )

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise _Cancelled


def _checked_cells(lattice: Lattice, cells: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(cells)
    if array.size == 0:
        return np.empty((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise UsageError(
            f"cells of shape {array.shape} and type {array.dtype}", "Give (n, 2) whole numbers"
        )
    array = array.astype(np.int64)
    if (array < 0).any() or (array >= (lattice.n_cols, lattice.n_rows)).any():
        raise UsageError(
            f"some cells lie outside the lattice of {lattice.n_cols} x {lattice.n_rows}",
            "Select the cells from this lattice",
        )
    return array
