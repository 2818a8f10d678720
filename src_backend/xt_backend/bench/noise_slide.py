"""Slides whose tiles cost as much to decode as those of a scanner."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from xt_backend.publishing import make_folder, publish

__all__ = ["MPP", "TILE_PX", "noise_slide"]

TILE_PX = 256
MPP = 0.5

_TILES = 256


def noise_slide(folder: Path, width_px: int, height_px: int | None = None, seed: int = 0) -> Path:
    """A slide of JPEG tiles with grain, one level, made when it is not there.

    Its tiles have about 16 kB each; those of tissue scanned at 40x have 14 kB.

    Args:
        folder: Where it lies.
        width_px: Rounded down to whole tiles.
        height_px: Likewise; None makes a square.
        seed: Of the grain.
    """
    cols, rows = width_px // TILE_PX, (height_px or width_px) // TILE_PX
    path = folder / f"noise-{cols * TILE_PX}x{rows * TILE_PX}-{seed}.tiff"
    if path.is_file():
        return path
    make_folder(folder)
    rng = np.random.default_rng(seed)
    coded = [_noisy_tile(rng) for _ in range(min(_TILES, cols * rows))]
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


def _noisy_tile(rng: np.random.Generator) -> bytes:
    coarse = rng.integers(120, 235, (TILE_PX // 8, TILE_PX // 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (TILE_PX, TILE_PX, 1))
    tile = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=85, subsampling=2)
    return buffer.getvalue()
