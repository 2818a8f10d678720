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
        self._ahead = threads + 2
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
        pixels, status = self._buffers(0)
        start = filled = 0
        try:
            for block_pixels, block_status in self._results():
                if not filled and len(block_status) == len(status):
                    yield RegionBatch(
                        np.arange(start, start + len(status)), block_pixels, block_status
                    )
                    start += len(status)
                    pixels, status = self._buffers(start)
                    continue
                done = 0
                while done < len(block_status):
                    take = min(len(status) - filled, len(block_status) - done)
                    pixels[filled : filled + take] = block_pixels[done : done + take]
                    status[filled : filled + take] = block_status[done : done + take]
                    filled, done = filled + take, done + take
                    if filled == len(status):
                        yield RegionBatch(np.arange(start, start + filled), pixels, status)
                        start, filled = start + filled, 0
                        pixels, status = self._buffers(start)
        finally:
            self.close()

    def _buffers(self, start: int) -> tuple[Pixels, Status]:
        # Fresh ones for every batch: the consumer may keep it.
        n = min(self._batch_size, len(self._cells) - start)
        return np.empty((n, self._size, self._size, 3), np.uint8), np.empty(n, np.uint8)

    def _results(self) -> Iterator[tuple[Pixels, Status]]:
        if self._pool is None:
            for block in self._blocks():
                began = time.perf_counter()
                try:
                    result = self._read(block)
                except _Cancelled:
                    return
                self._seconds_waited += time.perf_counter() - began
                yield result
            return
        pending: deque[Future[tuple[Pixels, Status]]] = deque()
        blocks = self._blocks()
        while not self._closed.is_set():
            while len(pending) < self._ahead and (following := next(blocks, None)) is not None:
                pending.append(self._pool.submit(self._read, following))
            if not pending:
                return
            began = time.perf_counter()
            try:
                result = pending.popleft().result()
            except (_Cancelled, CancelledError):
                return
            self._seconds_waited += time.perf_counter() - began
            yield result

    def _blocks(self) -> Iterator[Block]:
        return make_blocks(
            self._plan, self._cells, self._boxes, self._size, max_members=self._batch_size
        )

    def _read(self, block: Block) -> tuple[Pixels, Status]:
        began = time.perf_counter()
        n, size = len(block.strips), self._size
        pixels = np.empty((n, size, size, 3), dtype=np.uint8)
        status = self._good[block.start : block.start + n].copy()
        try:
            if n > 1:
                try:
                    self._read_together(block, pixels)
                    return pixels, status
                except RegionReadError:
                    # Only the regions that hold the bad place shall suffer.
                    pass
            for row, needs in enumerate(block.strips):
                try:
                    self._read_alone(needs, pixels[row])
                except RegionReadError:
                    pixels[row] = 0
                    status[row] = RegionStatus.READ_ERROR
            return pixels, status
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
            self._place(strip, self._pixels.raw(self._plan, strip.window), out)

    def _place(self, strip: Strip, raw: Pixels, out: Pixels) -> None:
        rows = slice(strip.row, strip.row + strip.n_rows)
        with self._resampling.running():
            out[rows] = resample(raw, self._plan, strip.window, self._size, strip.n_rows)

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
