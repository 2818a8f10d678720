"""Small slides written for one test: plain, pyramidal, sparse or damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise, (height, width, 3) uint8; nothing repeats, nothing is white."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 220, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    big = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(big)


def area_average(
    image: np.ndarray, width: int, height: int, box: tuple[float, ...] | None = None
) -> np.ndarray:
    """The exact mean over each output px's area, float64: slow, and right."""

    def weights(n_in: int, n_out: int, start: float, end: float) -> np.ndarray:
        scale = (end - start) / n_out
        edges = np.arange(n_in + 1)
        lower = start + np.arange(n_out)[:, None] * scale
        return np.diff(np.clip(edges, lower, lower + scale), axis=1) / scale

    left, top, right, bottom = box or (0, 0, image.shape[1], image.shape[0])
    rows = weights(image.shape[0], height, top, bottom)
    cols = weights(image.shape[1], width, left, right)
    return np.einsum("ih,hwc,jw->ijc", rows, image.astype(float), cols, optimize=True)


def _tiles(level: np.ndarray, tile: int) -> Iterator[np.ndarray]:
    height, width = level.shape[:2]
    for row in range(-(-height // tile)):
        for col in range(-(-width // tile)):
            part = level[row * tile : (row + 1) * tile, col * tile : (col + 1) * tile]
            pad = [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)]
            yield np.pad(part, pad, mode="edge")


def write_slide(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    mpp: tuple[float, float] | None = (0.25, 0.25),
    tile: int = 64,
    holes: Sequence[tuple[int, int]] = (),
    compression: str | None = "deflate",
    aperio: str | None = None,
) -> Path:
    """A tiled TIFF that OpenSlide opens as generic-tiff, or as Aperio with a description.

    `holes` are (col, row) of level-0 tiles that are left out; OpenSlide then derives bounds.
    """
    options = {}
    if mpp is not None:
        options = {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        for index, level in enumerate(levels):
            tiff.write(
                _tiles(level, tile),
                shape=level.shape,
                dtype=np.uint8,
                tile=(tile, tile),
                photometric="rgb",
                compression=compression,
                subfiletype=1 if index and aperio is None else 0,
                description=aperio if index == 0 else None,
                metadata=None,
                **options,
            )
    if holes:
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            page = tiff.pages[0]
            per_row = -(-page.imagewidth // tile)
            gone = {row * per_row + col for col, row in holes}
            for tag in ("TileOffsets", "TileByteCounts"):
                values = page.tags[tag].value
                kept = [0 if i in gone else value for i, value in enumerate(values)]
                page.tags[tag].overwrite(kept)
    return path


def spoil_tile(path: Path, col: int, row: int, level: int = 0) -> None:
    """Overwrites the bytes of one tile, so that it cannot be decoded."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        per_row = -(-page.imagewidth // page.tilewidth)
        index = row * per_row + col
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * count)
