"""Tiles decoded without OpenSlide, where that has been seen to give the same pixels."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import RegionReadError
from xt_backend.slides.handle import Handle
from xt_backend.slides.info import SlideInfo
from xt_backend.slides.jpeg_tile import DecoderError, DecoderFault
from xt_backend.slides.reading import Reading, tell_once
from xt_backend.slides.resample import Level
from xt_backend.slides.stopwatch import Stopwatch
from xt_backend.slides.tile_layout import TileLayout, read_layouts
from xt_backend.slides.tile_memory import TileMemory
from xt_backend.slides.tile_pieces import Box, Piece, around, pieces_of

__all__ = ["CACHE_BYTES", "DirectTiles"]

CACHE_BYTES = 128 * 2**20
"""Decoded tiles that are kept of one slide at most: three rows of a slide 55 000 px wide."""

_LEAST_BYTES = 16 * 2**20
_ROWS = 3
_AT_ONCE_BYTES = 8 * 2**20
_SAMPLES = 4
_TRIES = 12

Rgb = npt.NDArray[np.uint8]
Key = tuple[int, int]


class _File:
    """A file for reading at any place, from any thread; closed with the last reference."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, count: int) -> bytes:
        # Not mapped into memory: a file that is cut off meanwhile would end the process.
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, count, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, count)


class DirectTiles:
    """Decodes tiles into a bounded cache, from any thread, or leaves them to OpenSlide.

    Which levels are decoded directly is decided at the first read: the layout has to be known,
    and some tiles of each level have to be the same, pixel by pixel, as OpenSlide has them; if
    any is not, OpenSlide reads the whole slide. Of a tile that is missing, cannot be read, holds
    anything unusual or makes the decoder warn, nothing is returned: OpenSlide shall read it, or
    say that it cannot.

    Args:
        path: The file that OpenSlide opened.
        handle: The oracle.
        info: What it says of the slide.
        levels: The slide's geometry.
        reason: Why OpenSlide shall read everything; empty to look for oneself.
        cache_bytes: Decoded tiles that are kept at most.

    Attributes:
        decoding: Counts what the decoder takes.
    """

    def __init__(
        self,
        path: Path,
        handle: Handle,
        info: SlideInfo,
        levels: Sequence[Level],
        *,
        reason: str = "",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._path, self._handle, self._info, self._levels = path, handle, info, tuple(levels)
        self._lock = threading.Lock()
        self._choosing = threading.Lock()
        self._file: _File | None = None
        self._layouts: dict[int, TileLayout] = {}
        self._known: dict[int, set[tuple[Any, ...] | bytes]] = {}
        self._memory = TileMemory(cache_bytes)
        self.decoding = Stopwatch()
        self._doubtful: set[Key] = set()
        self._closed = False
        self._reading: Reading | None = None
        if reason:
            self._reading = Reading("", (reason,) * len(self._levels))

    @property
    def reading(self) -> Reading:
        """Who decodes which level; looked for when first asked."""
        if self._reading is None:
            with self._choosing:
                if self._reading is None:
                    self._reading = self._choose()
        return self._reading

    def read(self, level: int, x: int, y: int, out: Rgb) -> list[Box]:
        """Fills in what tiles show of a place on a level.

        Args:
            level: Pyramid level.
            x: Left edge, px of the level.
            y: Upper edge, px of the level.
            out: (height, width, 3) uint8; all of it lies on the level.

        Returns:
            (left, top, right, lower) in `out` of the pieces that were not filled in.
        """
        height, width = out.shape[:2]
        if self.reading.reasons[level]:
            return [(0, 0, width, height)]
        layout = self._layouts[level]
        x, y = x - layout.left_px, y - layout.top_px
        missing: list[Box] = []
        if not (0 <= x <= layout.width_px - width and 0 <= y <= layout.height_px - height):
            missing += around(x, y, width, height, layout.width_px, layout.height_px)
        pieces = pieces_of(layout, x, y, width, height)
        file = self._file
        if file is None:
            return missing + [piece.box for piece in pieces]
        tiles = layout.tiles
        whole = (0, 0, tiles.width_px, tiles.height_px)
        if len(pieces) == 1 and pieces[0].box == whole == (0, 0, width, height):
            # Who asks for tiles one by one has no use for half of one later.
            index = pieces[0].tile
            if out.flags.c_contiguous and not self._memory.has((level, index)):
                good = self._decode(file, level, index, out)
                return missing if good else [*missing, pieces[0].box]
        at_once = max(1, _AT_ONCE_BYTES // (tiles.height_px * tiles.width_px * 3))
        for start in range(0, len(pieces), at_once):
            missing += self._fill(file, level, pieces[start : start + at_once], out)
        return missing

    def close(self) -> None:
        """Lets go of the file and the tiles; reads under way finish."""
        with self._lock:
            self._closed = True
            self._file = None
        self._memory.close()

    def _fill(self, file: _File, level: int, pieces: Sequence[Piece], out: Rgb) -> list[Box]:
        """Copies parts of tiles; returns the places of those left to OpenSlide."""
        shape = self._layouts[level].tiles
        keys = [(level, piece.tile) for piece in pieces]
        tiles, mine = self._memory.borrow(keys, shape.height_px, shape.width_px)
        unsettled = mine[::-1]
        try:
            while unsettled:
                tile = unsettled[-1]
                good = self._decode(file, level, tile.key[1], tile.pixels)
                self._memory.settle(tile, good)
                unsettled.pop()
            self._memory.wait(tiles)
            missing = []
            for piece, tile in zip(pieces, tiles, strict=True):
                if tile.good:
                    out[piece.to] = tile.pixels[piece.of]
                else:
                    missing.append(piece.box)
            return missing
        finally:
            # Whatever happens, nobody shall wait for ever.
            for tile in unsettled:
                self._memory.settle(tile, False)
            self._memory.give_back(tiles)

    def _decode(self, file: _File, level: int, index: int, out: Rgb) -> bool:
        """Decodes a tile; one that cannot be is not tried again."""
        layout = self._layouts[level]
        if (level, index) in self._doubtful:
            return False
        data = _bytes_of(file, layout, index)
        if data is None:
            return False
        began = time.perf_counter()
        try:
            known = layout.tiles.signature(data) in self._known[level]
            good = known and layout.tiles.decode(data, out)
        except MemoryError:
            raise
        except Exception as error:
            good = False
            tell_once(_broken(error))
        self.decoding.add(time.perf_counter() - began)
        if not good:
            self._doubtful.add((level, index))
        return good

    def _choose(self) -> Reading:
        n = len(self._levels)
        try:
            found = read_layouts(self._path, self._info, self._levels)
            file = _File(self._path)
            reasons, decoders = [], []
            for level, layout in enumerate(found):
                if isinstance(layout, TileLayout):
                    self._layouts[level], self._known[level] = layout, set()
                    decoder = layout.tiles.decoder()
                    reasons.append(self._compare(file, level))
                    decoders += [] if reasons[-1] else [decoder]
                else:
                    reasons.append(layout)
        except DecoderError as error:
            if isinstance(error, DecoderFault):
                tell_once(str(error))
            return Reading("", (str(error),) * n)
        except OSError as error:
            return Reading("", (f"the file cannot be opened a second time ({error.strerror})",) * n)
        except Exception as error:
            # A library that is there but broken must not stop what OpenSlide can read.
            reason = _broken(error)
            tell_once(reason)
            return Reading("", (reason,) * n)
        if "" not in reasons:
            return Reading("", tuple(reasons))
        with self._lock:
            self._file = None if self._closed else file
        self._memory.max_bytes = min(self._memory.max_bytes, max(_LEAST_BYTES, self._rows_bytes()))
        return Reading(" and ".join(dict.fromkeys(decoders)), tuple(reasons))

    def _rows_bytes(self) -> int:
        """Bytes of the rows of the largest level's tiles that a walk in rows comes back to.

        Two for one thread; with several, those ahead already decode the row after it.
        """
        return max(
            _ROWS * layout.n_cols * layout.tiles.width_px * layout.tiles.height_px * 3
            for layout in self._layouts.values()
        )

    def _compare(self, file: _File, level: int) -> str:
        """Compares some tiles of a level with OpenSlide's; empty if they are the same.

        Raises:
            DecoderFault: One of them is not.
        """
        layout, seen = self._layouts[level], 0
        tile = np.empty((layout.tiles.height_px, layout.tiles.width_px, 3), np.uint8)
        for index in _sampled(layout.counts):
            place = self._place(level, index)
            try:
                image = self._handle.read(level, *place)
            except RegionReadError:
                continue
            data = _bytes_of(file, layout, index)
            signature = None if data is None else layout.tiles.signature(data)
            if data is None or signature is None or not layout.tiles.decode(data, tile):
                continue
            width, height = place[1]
            theirs = np.asarray(image)
            if (theirs[..., 3] != 255).any() or (theirs[..., :3] != tile[:height, :width]).any():
                raise DecoderFault(f"a tile of level {level} decodes differently")
            self._known[level].add(signature)
            seen += 1
            if seen == _SAMPLES:
                break
        return "" if seen else "none of its tiles that were tried can be decoded directly"

    def _place(self, level: int, index: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Location, level-0 px, and size, px of the level, of what is seen of a tile."""
        layout = self._layouts[level]
        row, col = divmod(index, layout.n_cols)
        x, y = col * layout.tiles.width_px, row * layout.tiles.height_px
        size = (
            min(layout.tiles.width_px, layout.width_px - x),
            min(layout.tiles.height_px, layout.height_px - y),
        )
        step = int(self._levels[level].downsample)
        return ((x + layout.left_px) * step, (y + layout.top_px) * step), size


def _bytes_of(file: _File, layout: TileLayout, index: int) -> bytes | None:
    """A tile as it is in the file; None if it is missing or not all there."""
    count = int(layout.counts[index])
    if count <= 0:
        return None
    try:
        data = file.read(int(layout.offsets[index]), count)
    except (OSError, ValueError, OverflowError):
        return None
    return data if len(data) == count else None


def _broken(error: Exception) -> str:
    """Why OpenSlide reads in place of a library that is there but broken."""
    return f"direct decoding does not work ({type(error).__name__})"


def _sampled(counts: npt.NDArray[np.int64]) -> list[int]:
    """Tiles that tell most: the longest, the first, the last, and some between."""
    held = np.flatnonzero(counts > 0)
    if not len(held):
        return []
    longest = int(held[counts[held].argmax()])
    spread = held[np.linspace(0, len(held) - 1, _TRIES).round().astype(int)].tolist()
    return list(dict.fromkeys([longest, spread[0], spread[-1], *spread[_TRIES // 2 :], *spread]))
