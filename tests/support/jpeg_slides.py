"""TIFF slides of JPEG tiles in every form that files have them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

Picture = np.ndarray[Any, Any]


def segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment; the last one, from SOS on, holds the rest."""
    at = 2
    while True:
        marker = jpeg[at + 1]
        if marker == 0xDA:
            yield marker, jpeg[at:]
            return
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield marker, jpeg[at:end]
        at = end


def encode(tile: Picture, *, rgb: bool = False, subsampling: int = 2, **options: Any) -> bytes:
    """A complete JPEG; without a JFIF marker where it holds RGB, as in Aperio's files."""
    buffer = io.BytesIO()
    image = Image.fromarray(tile)
    sampling = 0 if rgb else subsampling
    image.save(buffer, "JPEG", quality=85, subsampling=sampling, keep_rgb=rgb, **options)
    return buffer.getvalue()


def split_tables(jpeg: bytes) -> tuple[bytes, bytes]:
    """The tables as a stream of their own, and the abbreviated image."""
    tables, image = b"", b""
    for marker, data in segments(jpeg):
        if marker in (0xDB, 0xC4):
            tables += data
        else:
            image += data
    return b"\xff\xd8" + tables + b"\xff\xd9", b"\xff\xd8" + image


def write_jpeg_slide(
    path: Path,
    levels: Sequence[Picture],
    *,
    tile: int = 64,
    rgb: bool = False,
    tables: bool = False,
    aperio: str | None = None,
    mpp: float = 0.25,
    **options: Any,
) -> Path:
    """A slide that OpenSlide opens as generic-tiff, or as Aperio with a description.

    Args:
        path: Where it goes.
        levels: (h, w, 3) uint8, finest first.
        tile: Side of a tile, a multiple of 16.
        rgb: Tiles hold RGB instead of YCbCr.
        tables: Tiles share their tables and lack their own.
        aperio: Description that begins as Aperio's do.
        mpp: um/px of level 0.
        **options: Of `encode`.
    """
    with tifffile.TiffWriter(path) as tiff:
        for index, level in enumerate(levels):
            coded = [encode(part, rgb=rgb, **options) for part in _parts(level, tile)]
            shared = None
            if tables:
                shared = split_tables(coded[0])[0]
                coded = [split_tables(data)[1] for data in coded]
            per_cm = 1e4 / mpp * level.shape[1] / levels[0].shape[1]
            write_coded(
                tiff,
                coded,
                level.shape,
                tile,
                rgb=rgb,
                jpegtables=shared,
                subfiletype=1 if index and aperio is None else 0,
                description=aperio if index == 0 else None,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )
    if rgb:
        # The writer takes for granted that JPEG holds YCbCr.
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            for page in tiff.pages:
                page.tags["PhotometricInterpretation"].overwrite(2)
    return path


def write_coded(
    tiff: tifffile.TiffWriter,
    coded: Sequence[bytes],
    shape: tuple[int, ...],
    tile: int,
    *,
    rgb: bool = False,
    **options: Any,
) -> None:
    """Writes tiles that are JPEG already as one image of the file."""
    tiff.write(
        iter(coded),
        shape=shape,
        dtype=np.uint8,
        tile=(tile, tile),
        photometric="rgb" if rgb else "ycbcr",
        subsampling=(1, 1) if rgb else (2, 2),
        compression="jpeg",
        metadata=None,
        **options,
    )


def place_of_tile(path: Path, col: int, row: int, level: int = 0) -> tuple[int, int]:
    """Offset and bytes of a tile in the file."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        index = row * -(-page.imagewidth // page.tilewidth) + col
        return page.dataoffsets[index], page.databytecounts[index]


def rewrite(path: Path, offset: int, data: bytes) -> None:
    """Overwrites bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _parts(level: Picture, tile: int) -> Iterator[Picture]:
    height, width = level.shape[:2]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = level[top : top + tile, left : left + tile]
            pad = [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)]
            yield np.pad(part, pad, mode="edge")
