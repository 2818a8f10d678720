"""A slide as napari wants it: lazy levels over one shared, bounded cache of decoded tiles."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_xt.level import Level
from napari_xt.slide_file import SlideFile
from napari_xt.tiles import TILE_PX, Source, TileCache, enlarge, halve, hatched_tile, plan_levels
from xt_backend.errors import SlideError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    from xt_backend.slides import Slide, SlideInfo

    Pixels = npt.NDArray[np.uint8]
    Key = tuple[int, int, int]

__all__ = ["Pyramid"]

CACHE_BYTES = 320 * 2**20

_SMALLEST_PART_PX = 128
"""How closely an unreadable place is narrowed down before it is hatched."""

_PALE = 232


class Pyramid:
    """The levels of one slide for the viewer.

    Levels that the file lacks (one level only, a large coarsest level, wide gaps) are made by
    halving, tile by tile, when they are looked at. All levels share one cache of decoded tiles.
    `close` lets go of the file, the threads and the cache; a later read opens them again.

    A viewer may set `patience_s` and `on_arrival`: reads then wait no longer than that, show
    what is late from a coarser level or in pale grey, and tell when it has arrived.

    Args:
        path: Slide file or DICOM folder.
        cache_bytes: Upper bound of the decoded tiles that are kept.
        threads: Threads that read tiles side by side.

    Attributes:
        info: What is known of the slide.
        patience_s: How long a read may take; None waits for everything.
        on_arrival: Called in a reading thread when a late tile has come.
        colours: What is done to the pixels before they are shown; None shows them as they are.

    Raises:
        SlideError: The slide can't be opened.
    """

    def __init__(self, path: Path, *, cache_bytes: int = CACHE_BYTES, threads: int = 2) -> None:
        self.path = Path(path)
        self.cache = TileCache(cache_bytes)
        self.patience_s: float | None = None
        self.on_arrival: Callable[[], None] | None = None
        self.colours: Callable[[Pixels], Pixels] | None = None
        self._painting = threading.Lock()
        self._lock = threading.Lock()
        self._in_flight: dict[Key, _Job] = {}
        self._late: set[Key] = set()
        self._file = SlideFile(self.path, threads)
        self._closer = weakref.finalize(self, self._file.release)
        self.info: SlideInfo = self._slide().info
        self._sources: list[Source] = plan_levels(self.info.level_dimensions)

    @property
    def levels(self) -> list[Level]:
        """The levels, finest first. They hold the pyramid, it does not hold them."""
        return [
            Level(self, index, source.width_px, source.height_px)
            for index, source in enumerate(self._sources)
        ]

    @property
    def is_open(self) -> bool:
        """Whether a file handle is held now."""
        return self._file.is_open

    @property
    def reading(self) -> bool:
        """Whether tiles are being read now."""
        return bool(self._in_flight)

    def close(self) -> None:
        """Let go of the file handle, the threads and the decoded tiles."""
        self._file.release()
        with self._lock:
            self._in_flight.clear()
            self._late.clear()
            self.cache.clear()

    def set_colours(self, colours: Callable[[Pixels], Pixels] | None) -> None:
        """Show other colours from the next read on.

        Args:
            colours: Of (h, w, 3) uint8; called by one thread at a time.
        """
        self.colours = colours
        self.close()  # tiles in hand, in the colours of before, are not kept

    def read(
        self, index: int, x0_px: int, y0_px: int, x1_px: int, y1_px: int, *, patient: bool = False
    ) -> Pixels:
        """Read a box of level `index`, given in that level's px and inside it.

        One that is `patient` waits for what is late, whatever `patience_s` says.

        Returns:
            (y1_px - y0_px, x1_px - x0_px, 3) uint8.

        Raises:
            SlideError: The slide was closed meanwhile, and no viewer has set `patience_s`.
        """
        keys = [
            (index, row, column)
            for row in range(y0_px // TILE_PX, -(-y1_px // TILE_PX))
            for column in range(x0_px // TILE_PX, -(-x1_px // TILE_PX))
        ]
        out = np.empty((y1_px - y0_px, x1_px - x0_px, 3), np.uint8)
        stopped = self._file.stopped
        waiting: list[tuple[Key, _Job]] = []
        for key in keys:
            tile = self.cache.get(key)
            if tile is None:
                waiting.append((key, self._request(key, stopped)))
            else:
                _paste(tile, key[1] * TILE_PX - y0_px, key[2] * TILE_PX - x0_px, out)
        hurried = self.patience_s is not None and not patient
        deadline = time.monotonic() + (self.patience_s or 0.0) if hurried else None
        for key, job in waiting:
            tile = self._await(key, job, deadline)
            _paste(tile, key[1] * TILE_PX - y0_px, key[2] * TILE_PX - x0_px, out)
        return out

    def _await(self, key: Key, job: _Job, deadline: float | None) -> Pixels:
        if deadline is not None:
            patience = 0.0 if key in self._late else deadline - time.monotonic()
            if not _is_done(job.future, max(0.0, patience)):
                with self._lock:
                    late = self._in_flight.get(key) is job
                    if late:
                        self._late.add(key)
                if late or job.stopped.is_set():
                    return self._stand_in(key, job)
        try:
            return job.future.result()
        except CancelledError:
            # A viewer that has let go of the slide wants no picture of it, nor an error.
            if deadline is not None:
                return self._stand_in(key, job)
            raise SlideError("the slide was closed while it was read", "Read again") from None

    def _stand_in(self, key: Key, job: _Job) -> Pixels:
        """What a late tile looks like meanwhile: as far as it is, or coarser, else pale."""
        if job.begun is not None:
            return halve(job.begun)
        index, row, column = key
        wanted = self._sources[index]
        height = min(TILE_PX, wanted.height_px - row * TILE_PX)
        width = min(TILE_PX, wanted.width_px - column * TILE_PX)
        for coarser in range(index + 1, len(self._sources)):
            scale = wanted.width_px / self._sources[coarser].width_px
            y, x = int(row * TILE_PX / scale), int(column * TILE_PX / scale)
            tile = self.cache.peek((coarser, y // TILE_PX, x // TILE_PX))
            if tile is not None:
                return enlarge(tile[y % TILE_PX :, x % TILE_PX :], scale, width, height)
        return np.full((height, width, 3), _PALE, np.uint8)

    def _request(self, key: Key, stopped: threading.Event) -> _Job:
        """The job that reads a tile; a cancelled one where the slide was closed meanwhile."""
        with self._lock:
            job = self._in_flight.get(key)
            if job is None or job.stopped.is_set():
                job = _Job(stopped)
                try:
                    pool = self._file.pool(stopped, slow=self._sources[key[0]].native is None)
                except CancelledError:
                    job.future.cancel()
                    job.future.set_running_or_notify_cancel()  # else who waits is not told
                    return job
                self._in_flight[key] = job
                job.future = pool.submit(self._work_off, key, job)
        return job

    def _work_off(self, key: Key, job: _Job) -> Pixels:
        try:
            tile, whole = self._decode(key, job, show=True)
            # What could not be read is not kept: a share that comes back is read again.
            if whole:
                self._keep(key, tile, job)
            return tile
        finally:
            with self._lock:
                if self._in_flight.get(key) is job:
                    del self._in_flight[key]
            self._tell(key)
            self._late.discard(key)

    def _keep(self, key: Key, tile: Pixels, job: _Job) -> None:
        with self._lock:
            if not job.stopped.is_set():  # else the cache has been emptied for good
                self.cache.put(key, tile)

    def _tell(self, key: Key) -> None:
        if key in self._late and self.on_arrival is not None:
            self.on_arrival()

    def _decode(self, key: Key, job: _Job, *, show: bool) -> tuple[Pixels, bool]:
        """Pixels of a tile, and whether all of it could be read.

        Args:
            key: Level, row and column of the tile.
            job: On whose behalf.
            show: Whether a tile that takes long may be shown half done.

        Raises:
            CancelledError: The slide was closed; nobody waits any more.
        """
        index, row, column = key
        source = self._sources[index]
        x0, y0 = column * TILE_PX, row * TILE_PX
        width, height = min(TILE_PX, source.width_px - x0), min(TILE_PX, source.height_px - y0)
        if source.native is not None:
            return self._read_native(job, source.native, x0, y0, width, height)
        below = self._sources[source.finer]
        x1, y1 = min(2 * (x0 + width), below.width_px), min(2 * (y0 + height), below.height_px)
        block = np.full((y1 - 2 * y0, x1 - 2 * x0, 3), _PALE, np.uint8)
        if show:
            job.begun = block
        whole = True
        # In this thread: asking the pool and waiting inside the pool would lock it up.
        for finer_row in range(2 * y0 // TILE_PX, -(-y1 // TILE_PX)):
            for finer_column in range(2 * x0 // TILE_PX, -(-x1 // TILE_PX)):
                part = self._finer((source.finer, finer_row, finer_column), job)
                top, left = finer_row * TILE_PX - 2 * y0, finer_column * TILE_PX - 2 * x0
                _paste(part[0], top, left, block)
                whole &= part[1]
                if show:
                    self._tell(key)
        return halve(block), whole

    def _finer(self, key: Key, job: _Job) -> tuple[Pixels, bool]:
        tile = self.cache.get(key)
        if tile is not None:
            return tile, True
        tile, whole = self._decode(key, job, show=False)
        # Native tiles are quick to read again; keeping them would push out what is looked at.
        if whole and self._sources[key[0]].native is None:
            self._keep(key, tile, job)
        return tile, whole

    def _read_native(
        self, job: _Job, level: int, x0: int, y0: int, width: int, height: int
    ) -> tuple[Pixels, bool]:
        try:
            slide = self._file.open(job.stopped)
            tile = slide.read_level(level, x0, y0, width, height)
            colours = self.colours
            if colours is not None:
                with self._painting:
                    tile = colours(tile)
            return tile, True
        except (SlideError, UsageError):
            if job.stopped.is_set():  # closed between opening and reading
                raise CancelledError from None
            if max(width, height) <= _SMALLEST_PART_PX:
                return hatched_tile(x0, y0, width, height), False
        out = np.empty((height, width, 3), np.uint8)
        step = max(width, height) // 2
        for top in range(0, height, step):
            for left in range(0, width, step):
                part, _ = self._read_native(
                    job,
                    level,
                    x0 + left,
                    y0 + top,
                    min(step, width - left),
                    min(step, height - top),
                )
                _paste(part, top, left, out)
        return out, False

    def _slide(self) -> Slide:
        return self._file.open()


@dataclass(eq=False)
class _Job:
    """A tile that is being read.

    Attributes:
        stopped: Set when the slide was closed: the job must touch neither file nor cache then.
        begun: What there is so far of the finer level, for tiles made by halving.
        future: The tile.
    """

    stopped: threading.Event
    begun: Pixels | None = None
    future: Future[Pixels] = field(default_factory=Future)


def _is_done(future: Future[Pixels], patience_s: float) -> bool:
    return bool(wait([future], patience_s).done)


def _paste(tile: Pixels, top: int, left: int, out: Pixels) -> None:
    """Copy the part of `tile` that lies inside `out` when put at (top, left)."""
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + tile.shape[0], out.shape[0]), min(left + tile.shape[1], out.shape[1])
    out[y0:y1, x0:x1] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
