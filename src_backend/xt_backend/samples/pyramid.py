"""Any RGB picture as a tiled, pyramidal TIFF that OpenSlide opens as `generic-tiff`."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.errors import UsageError
from xt_backend.keys import PRODUCT

__all__ = ["level_sizes", "write_pyramid", "write_pyramid_array"]

Pixels = npt.NDArray[np.uint8]

_BIG_TIFF_FROM_PX = 3_000_000_000
_TOP_LEVEL_PX = 512
_FAST = 1
"""How hard lossless tiles are packed: more takes far longer and saves little."""


def level_sizes(width_px: int, height_px: int, factor: int = 4) -> tuple[tuple[int, int], ...]:
    """(width, height) of every level: each `factor` times smaller, until 512 px suffice."""
    sizes = [(width_px, height_px)]
    while max(sizes[-1]) > _TOP_LEVEL_PX and min(sizes[-1]) >= 2 * factor:
        sizes.append((sizes[-1][0] // factor, sizes[-1][1] // factor))
    return tuple(sizes)


_JPEG: dict[str, Any] = {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)}
_LOSSLESS: dict[str, Any] = {"photometric": "rgb", "compression": "adobe_deflate"}


class _Level:
    """Takes the rows of one level and gives them back as encoded tiles.

    Args:
        size: (width, height) of the level.
        tile_px: Side of a tile.
        quality: Of the JPEG; None loses nothing.
        factor: Downsample of the next level.
        below: The next, smaller level, fed on the way.
    """

    def __init__(
        self,
        size: tuple[int, int],
        tile_px: int,
        quality: int | None,
        factor: int,
        below: _Level | None,
    ) -> None:
        self._width, self._height = size
        self._tile_px, self._quality, self._factor = tile_px, quality, factor
        self._below = below
        self._rows = np.empty((0, self._width, 3), np.uint8)
        self._unreduced = self._rows
        self._taken = 0
        self.tiles: list[bytes] = []

    def take(self, rows: Pixels) -> None:
        """Append rows; whole tiles are encoded at once."""
        self._taken += len(rows)
        self._rows = np.concatenate([self._rows, rows]) if len(self._rows) else rows
        while len(self._rows) >= self._tile_px or (
            self._taken == self._height and len(self._rows) > 0
        ):
            self._encode(self._rows[: self._tile_px])
            self._rows = self._rows[self._tile_px :].copy()
        if self._below is not None:
            self._reduce(rows, self._below)

    def _encode(self, rows: Pixels) -> None:
        tile_px = self._tile_px
        lacking = (tile_px - len(rows), -self._width % tile_px)
        if any(lacking):
            # The decoder cuts this off; repeating the border keeps JPEG from ringing into it.
            rows = np.pad(rows, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="edge")
        for left in range(0, rows.shape[1], tile_px):
            tile = rows[:, left : left + tile_px]
            if self._quality is None:
                self.tiles.append(zlib.compress(tile.tobytes(), _FAST))
                continue
            buffer = BytesIO()
            Image.fromarray(tile).save(buffer, "JPEG", quality=self._quality, subsampling="4:2:0")
            self.tiles.append(buffer.getvalue())

    def _reduce(self, rows: Pixels, below: _Level) -> None:
        factor = self._factor
        rows = np.concatenate([self._unreduced, rows]) if len(self._unreduced) else rows
        whole = len(rows) // factor
        self._unreduced = rows[whole * factor :].copy()
        whole = min(whole, below._height - below._taken)
        columns = below._width
        if whole:
            cut = rows[: whole * factor, : columns * factor]
            total = np.zeros((whole, columns, 3), np.uint32)
            for dy in range(factor):
                for dx in range(factor):
                    total += cut[dy::factor, dx::factor]
            below.take(((total + factor**2 // 2) // factor**2).astype(np.uint8))


def write_pyramid(
    path: Path,
    strips: Iterable[Pixels],
    width_px: int,
    height_px: int,
    *,
    mpp: tuple[float, float] | None = (0.5, 0.5),
    tile_px: int = 256,
    quality: int | None = 87,
    factor: int = 4,
) -> None:
    """Write a slide from strips, top to bottom; memory holds one strip and the packed small levels.

    Args:
        path: Where to; overwritten.
        strips: (h, width, 3) uint8 pieces of any heights that sum to the slide's.
        width_px: Of level 0.
        height_px: Of level 0.
        mpp: um/px in x and y; None states none.
        tile_px: Side of a tile, a multiple of 16.
        quality: Of the JPEG, 1 to 100; None loses nothing, and takes ten times the room.
        factor: Downsample from level to level.

    Raises:
        UsageError: The strips are not of the announced size.
        OSError: The file cannot be written.
    """
    import tifffile  # scoring, which writes no slide, does without it

    sizes = level_sizes(width_px, height_px, factor)
    levels: list[_Level] = []
    for size in reversed(sizes):
        levels.insert(0, _Level(size, tile_px, quality, factor, levels[0] if levels else None))

    def first_level() -> Iterator[bytes]:
        done = 0
        for strip in strips:
            done += len(strip)
            if strip.shape[1:] != (width_px, 3) or done > height_px:
                raise wrong_size
            levels[0].take(strip)
            yield from levels[0].tiles
            levels[0].tiles.clear()
        if done != height_px:
            raise wrong_size

    wrong_size = UsageError(
        f"strips of a slide of {width_px} x {height_px} px do not have this size",
        "Give (h, width, 3) pieces whose heights sum to the slide's height",
    )
    tiles = first_level()
    count = -(-width_px // tile_px) * -(-height_px // tile_px)
    with tifffile.TiffWriter(path, bigtiff=width_px * height_px > _BIG_TIFF_FROM_PX) as tiff:
        for number, (level, (width, height)) in enumerate(zip(levels, sizes, strict=True)):
            scale = (width_px / width, height_px / height)
            stated: dict[str, Any] = {}
            if mpp is not None:
                per_cm = (1e4 / (mpp[0] * scale[0]), 1e4 / (mpp[1] * scale[1]))
                stated = {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
            tiff.write(
                islice(tiles, count) if number == 0 else iter(level.tiles),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                subfiletype=int(number > 0),
                software=PRODUCT,
                metadata=None,
                **(_LOSSLESS if quality is None else _JPEG),
                **stated,
            )
            # Nobody asks for more than the last tile; this lets the strips come to their end.
            for _ in tiles:
                raise wrong_size


def write_pyramid_array(
    path: Path, rgb: Pixels, *, mpp: tuple[float, float] = (0.5, 0.5), quality: int = 87
) -> None:
    """Write a whole picture in memory, (H, W, 3) uint8, as a slide."""
    write_pyramid(path, [rgb], rgb.shape[1], rgb.shape[0], mpp=mpp, quality=quality)
