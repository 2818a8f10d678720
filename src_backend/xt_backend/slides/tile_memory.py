"""Decoded tiles that are kept, and the memory of those that were dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Tile", "TileMemory"]

_SPARE_TILES = 8

Rgb = npt.NDArray[np.uint8]
Key = tuple[int, int]


@dataclass(eq=False)
class Tile:
    """A decoded tile; its memory is used again when nobody reads it any more.

    Attributes:
        pixels: (h, w, 3) uint8.
        users: Reads that copy from it now.
        dropped: Whether it has left the cache.
    """

    pixels: Rgb
    users: int = 1
    dropped: bool = False


class TileMemory:
    """Keeps the tiles used last, up to a number of bytes. Thread-safe.

    A tile is lent out and has to be given back: only then is its memory used for another one.
    Getting it anew from the system costs a quarter of decoding.

    Args:
        max_bytes: Of the tiles that are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Tile] = OrderedDict()
        self._spare: deque[Rgb] = deque(maxlen=_SPARE_TILES)
        self._closed = False

    def borrow(self, key: Key) -> Tile | None:
        """The tile, lent out, or None if it is not kept."""
        with self._lock:
            tile = self._kept.get(key)
            if tile is not None:
                self._kept.move_to_end(key)
                tile.users += 1
            return tile

    def blank(self, height: int, width: int) -> Tile:
        """A tile of any content, lent out, to be decoded into."""
        with self._lock:
            pixels = self._spare.pop() if self._spare else None
        if pixels is None or pixels.shape != (height, width, 3):
            pixels = np.empty((height, width, 3), np.uint8)
        return Tile(pixels)

    def keep(self, key: Key, tile: Tile) -> None:
        """Keeps a tile that is lent out; the ones used longest ago make room."""
        with self._lock:
            if self._closed or key in self._kept:
                tile.dropped = True
                return
            self._kept[key] = tile
            self.n_bytes += tile.pixels.nbytes
            while self.n_bytes > self.max_bytes:
                oldest = self._kept.popitem(last=False)[1]
                self.n_bytes -= oldest.pixels.nbytes
                oldest.dropped = True
                self._use_again(oldest)

    def give_back(self, tile: Tile) -> None:
        """Ends a loan; the pixels may be others from now on."""
        with self._lock:
            tile.users -= 1
            self._use_again(tile)

    def close(self) -> None:
        """Drops everything, and keeps nothing more."""
        with self._lock:
            self._closed = True
            self._kept.clear()
            self._spare.clear()
            self.n_bytes = 0

    def _use_again(self, tile: Tile) -> None:
        if tile.dropped and not tile.users and not self._closed:
            self._spare.append(tile.pixels)
