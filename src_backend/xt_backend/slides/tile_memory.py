"""Decoded tiles that are kept and shared, and the memory of those that were dropped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Tile", "TileMemory"]

_SLAB_BYTES, _SLAB_TILES = 16 * 2**20, 64

Rgb = npt.NDArray[np.uint8]
Key = tuple[int, int]


@dataclass(eq=False, slots=True)
class Tile:
    """A tile's memory; used again when nobody reads it any more.

    Attributes:
        key: Which tile it is.
        pixels: (h, w, 3) uint8.
        users: Reads that decode into it or copy from it now.
        good: Whether it is decoded; None while somebody is at it.
        dropped: Whether it has left the cache.
    """

    key: Key
    pixels: Rgb
    users: int = 1
    good: bool | None = None
    dropped: bool = False


class TileMemory:
    """Keeps the tiles used last, up to a number of bytes. Thread-safe.

    Who asks first for a tile decodes it; who asks meanwhile waits for that. A tile is lent out
    and has to be given back: only then is its memory used for another one. Memory comes in slabs,
    for the system hands out large pieces in large pages: got tile by tile it would cost half as
    much as decoding.

    Args:
        max_bytes: Of the tiles that are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._done = threading.Condition()
        self._kept: OrderedDict[Key, Tile] = OrderedDict()
        self._spare: list[Rgb] = []
        self._shape = (0, 0, 3)
        self._closed = False

    def has(self, key: Key) -> bool:
        """Whether a tile is kept, or being decoded to be."""
        with self._done:
            return key in self._kept

    def borrow(self, keys: Iterable[Key], height: int, width: int) -> tuple[list[Tile], list[Tile]]:
        """Lends out tiles, every one of which has to be given back.

        Args:
            keys: Which ones.
            height: Of each, px.
            width: Of each, px.

        Returns:
            All of them, in order, and those among them that the caller has to decode, and to
            `settle`, before it waits for others.
        """
        tiles, mine = [], []
        with self._done:
            for key in keys:
                tile = self._kept.get(key)
                if tile is None:
                    tile = self._kept[key] = Tile(key, self._blank((height, width, 3)))
                    self.n_bytes += tile.pixels.nbytes
                    mine.append(tile)
                else:
                    self._kept.move_to_end(key)
                    tile.users += 1
                tiles.append(tile)
            while self.n_bytes > self.max_bytes or (self._closed and self._kept):
                self._drop(next(iter(self._kept)))
        return tiles, mine

    def settle(self, tile: Tile, good: bool) -> None:
        """Tells who waits for a tile whether it has been decoded; one that has not is dropped."""
        with self._done:
            tile.good = good
            if not good and self._kept.get(tile.key) is tile:
                self._drop(tile.key)
            if tile.users > 1:
                self._done.notify_all()

    def wait(self, tiles: Sequence[Tile]) -> None:
        """Until all of them are settled."""
        if any(tile.good is None for tile in tiles):
            with self._done:
                self._done.wait_for(lambda: all(tile.good is not None for tile in tiles))

    def give_back(self, tiles: Iterable[Tile]) -> None:
        """Ends loans; the pixels may be others from now on."""
        with self._done:
            for tile in tiles:
                tile.users -= 1
                self._use_again(tile)

    def close(self) -> None:
        """Drops everything, and keeps nothing more."""
        with self._done:
            self._closed = True
            while self._kept:
                self._drop(next(iter(self._kept)))
            self._spare.clear()

    def _blank(self, shape: tuple[int, int, int]) -> Rgb:
        if shape != self._shape:
            self._shape, self._spare = shape, []
        if not self._spare:
            n = min(_SLAB_TILES, max(1, min(_SLAB_BYTES, self.max_bytes) // int(np.prod(shape))))
            self._spare = list(np.empty((n, *shape), np.uint8))[::-1]
        return self._spare.pop()

    def _drop(self, key: Key) -> None:
        tile = self._kept.pop(key)
        self.n_bytes -= tile.pixels.nbytes
        tile.dropped = True
        self._use_again(tile)

    def _use_again(self, tile: Tile) -> None:
        if tile.dropped and not tile.users and tile.pixels.shape == self._shape:
            self._spare.append(tile.pixels)
