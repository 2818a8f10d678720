"""Decoded tiles: which levels they make up, the bounded cache, halving, the hatched stand-in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "OVERVIEW_PX",
    "TILE_PX",
    "Source",
    "TileCache",
    "enlarge",
    "halve",
    "hatched_tile",
    "plan_levels",
]

TILE_PX = 512
OVERVIEW_PX = 1024
"""Napari keeps the coarsest level in memory, so it must be about this small."""

_WIDEST_GAP = 4.5
"""Between two levels napari draws up to gap x gap of the canvas' pixels."""

_HATCH_PERIOD_PX = 16
_HATCH_LIGHT = (255, 244, 214)
_HATCH_DARK = (222, 120, 31)


@dataclass(frozen=True)
class Source:
    """Where a level's pixels come from.

    Attributes:
        width_px: In this level's px.
        height_px: In this level's px.
        native: Level of the file, or None for a level that is made by halving.
        finer: Index of the level that is halved.
    """

    width_px: int
    height_px: int
    native: int | None = None
    finer: int = -1

    @property
    def longest_px(self) -> int:
        """The longer side."""
        return max(self.width_px, self.height_px)


def plan_levels(level_dimensions: tuple[tuple[int, int], ...]) -> list[Source]:
    """The file's levels, with halved ones filled into wide gaps and below the coarsest.

    Args:
        level_dimensions: (width, height) of each level of the file, finest first.

    Returns:
        Finest first, each smaller than the one before, as napari wants them.
    """
    sources: list[Source] = []
    for native, (width_px, height_px) in enumerate(level_dimensions):
        if sources and (width_px, height_px) == (sources[-1].width_px, sources[-1].height_px):
            continue
        while sources and sources[-1].longest_px > _WIDEST_GAP * max(width_px, height_px):
            sources.append(_halved(sources))
        sources.append(Source(width_px, height_px, native=native))
    while sources[-1].longest_px > 2 * OVERVIEW_PX or (
        len(sources) == 1 and sources[0].longest_px > OVERVIEW_PX // 2
    ):
        sources.append(_halved(sources))
    return sources


def _halved(sources: list[Source]) -> Source:
    last = sources[-1]
    return Source(-(-last.width_px // 2), -(-last.height_px // 2), finer=len(sources) - 1)


class TileCache:
    """Least recently used tiles go first; never holds more than `max_bytes`. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self.hits = 0
        self.misses = 0
        self._tiles: OrderedDict[tuple[int, int, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, key: tuple[int, int, int]) -> Pixels | None:
        """The tile, now the most recently used one, or None."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is None:
                self.misses += 1
                return None
            self.hits += 1
            self._tiles.move_to_end(key)
            return tile

    def peek(self, key: tuple[int, int, int]) -> Pixels | None:
        """The tile or None, without counting as a use."""
        with self._lock:
            return self._tiles.get(key)

    def put(self, key: tuple[int, int, int], tile: Pixels) -> None:
        """Keep a tile and drop the oldest ones beyond the bound."""
        with self._lock:
            old = self._tiles.pop(key, None)
            if old is not None:
                self.n_bytes -= old.nbytes
            self._tiles[key] = tile
            self.n_bytes += tile.nbytes
            while self.n_bytes > self.max_bytes:
                _, dropped = self._tiles.popitem(last=False)
                self.n_bytes -= dropped.nbytes

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._tiles.clear()
            self.n_bytes = 0


def halve(block: Pixels) -> Pixels:
    """Mean of 2 x 2 px; an odd last row or column counts twice.

    Args:
        block: (h, w, 3) uint8.

    Returns:
        (ceil(h / 2), ceil(w / 2), 3) uint8.
    """
    height, width = block.shape[:2]
    if height % 2 or width % 2:
        block = np.pad(block, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    total = block[0::2, 0::2].astype(np.uint16)
    total += block[0::2, 1::2]
    total += block[1::2, 0::2]
    total += block[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def enlarge(block: Pixels, scale: float, width_px: int, height_px: int) -> Pixels:
    """The block's upper left part, enlarged by repeating pixels.

    Args:
        block: (h, w, 3) uint8.
        scale: Pixels of the result per pixel of the block.
        width_px: Width of the result.
        height_px: Height of the result.

    Returns:
        (height_px, width_px, 3) uint8; beyond the block its last row and column go on.
    """
    rows = np.minimum((np.arange(height_px) / scale).astype(int), block.shape[0] - 1)
    columns = np.minimum((np.arange(width_px) / scale).astype(int), block.shape[1] - 1)
    return block.take(rows, axis=0).take(columns, axis=1)  # 3 times as quick as one indexing


def hatched_tile(x0_px: int, y0_px: int, width_px: int, height_px: int) -> Pixels:
    """Diagonal stripes, (height_px, width_px, 3) uint8, that fit together from tile to tile."""
    diagonal = np.add.outer(np.arange(y0_px, y0_px + height_px), np.arange(x0_px, x0_px + width_px))
    dark = (diagonal // (_HATCH_PERIOD_PX // 2)) % 2 == 0
    return np.where(
        dark[..., None], np.array(_HATCH_DARK, np.uint8), np.array(_HATCH_LIGHT, np.uint8)
    )
