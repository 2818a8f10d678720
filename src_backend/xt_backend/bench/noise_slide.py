"""Slides whose tiles cost as much to decode as those of a scanner."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from xt_backend.publishing import make_folder, publish
from xt_backend.samples.layout import draw_layout
from xt_backend.samples.noise import Window
from xt_backend.samples.render import Renderer

__all__ = ["MPP", "TILE_PX", "noise_slide"]

Tile = npt.NDArray[np.uint8]

TILE_PX = 256
MPP = 0.5

_TILES = 256
_SLIDE_PX, _MARGIN_PX, _SEED = 6144, 1024, (9, 0)
"""Of the sample slide; within the margin there is tissue only."""
_GRAIN = 4.0
"""Standard deviation, of 255."""


def noise_slide(
    folder: Path,
    width_px: int,
    height_px: int | None = None,
    seed: int = 0,
    *,
    of_tissue: bool = False,
) -> Path:
    """A slide of JPEG tiles with grain, one level, made when it is not there.

    Its tiles have about 16 kB each; those of tissue scanned at 40x have 14 kB.

    Args:
        folder: Where it lies.
        width_px: Rounded down to whole tiles.
        height_px: Likewise; None makes a square.
        seed: Of the grain.
        of_tissue: Its tiles, in any order, are those of a sample slide, which encoders tell
            apart; smooth colours otherwise.
    """
    cols, rows = width_px // TILE_PX, (height_px or width_px) // TILE_PX
    kind = "tissue" if of_tissue else "noise"
    path = folder / f"{kind}-{cols * TILE_PX}x{rows * TILE_PX}-{seed}.tiff"
    if path.is_file():
        return path
    make_folder(folder)
    rng = np.random.default_rng(seed)
    n = min(_TILES, cols * rows)
    tiles = _tissue(n) if of_tissue else (_smooth(rng) for _ in range(n))
    coded = [_with_grain(tile, rng) for tile in tiles]
    with publish(path) as temp, tifffile.TiffWriter(temp, bigtiff=True) as tiff:
        tiff.write(
            (coded[i] for i in rng.integers(0, len(coded), cols * rows)),
            shape=(rows * TILE_PX, cols * TILE_PX, 3),
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            photometric="ycbcr",
            subsampling=(2, 2),
            compression="jpeg",
            metadata=None,
            resolution=(1e4 / MPP, 1e4 / MPP),
            resolutionunit="CENTIMETER",
        )
    return path


def _smooth(rng: np.random.Generator) -> Tile:
    coarse = rng.integers(120, 235, (TILE_PX // 8, TILE_PX // 8, 3), dtype=np.uint8)
    side = (TILE_PX, TILE_PX)
    return np.asarray(Image.fromarray(coarse).resize(side, Image.Resampling.BICUBIC))


def _tissue(n: int) -> Iterator[Tile]:
    """At least `n` tiles."""
    side = math.ceil(math.sqrt(n))
    layout = draw_layout(_SLIDE_PX, _SLIDE_PX, _SEED)
    window = Window(_MARGIN_PX, _MARGIN_PX, side * TILE_PX, side * TILE_PX)
    for row in np.split(Renderer.seeded(layout, _SEED).render(window), side):
        yield from np.split(row, side, axis=1)


def _with_grain(tile: Tile, rng: np.random.Generator) -> bytes:
    grain = rng.normal(0, _GRAIN, (TILE_PX, TILE_PX, 1))
    grainy = np.clip(tile + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grainy).save(buffer, "JPEG", quality=85, subsampling=2)
    return buffer.getvalue()
