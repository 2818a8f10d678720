"""Where the tiles of a TIFF-based slide lie in its file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xt_backend.slides.info import SlideInfo
from xt_backend.slides.jp2k_tile import Jp2kTiles
from xt_backend.slides.jpeg_tile import ColorSpace, DecoderError, JpegTiles
from xt_backend.slides.resample import Level

if TYPE_CHECKING:
    import tifffile

__all__ = ["TileLayout", "read_layouts"]

_VENDORS = frozenset({"aperio", "generic-tiff", "leica", "philips", "trestle"})
"""Formats whose tiles OpenSlide puts side by side, as TIFF has it."""
_JPEG, _APERIO_RGB, _RGB, _YCBCR, _CONTIG = 7, 33005, 2, 6, 1
_NAMES = {
    1: "uncompressed",
    5: "LZW",
    8: "deflate",
    33003: "JPEG 2000 in YCbCr",
    32946: "deflate",
    34712: "JPEG 2000",
}
_MAX_TILE_PX = 4096
_ROUNDING = 1e-6


@dataclass(frozen=True)
class TileLayout:
    """The tiles of one pyramid level.

    Attributes:
        tiles: How a tile is decoded.
        width_px: Width of the part of the level that the tiles cover.
        height_px: Height of that part.
        left_px: Where that part begins, px of the level.
        top_px: Where that part begins, px of the level.
        n_cols: Tiles in a row.
        offsets: (n,) int64, places in the file, row by row.
        counts: (n,) int64, bytes there; 0 where the file has no tile.
    """

    tiles: JpegTiles | Jp2kTiles
    width_px: int
    height_px: int
    left_px: int
    top_px: int
    n_cols: int
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def read_layouts(path: Path, info: SlideInfo, levels: Sequence[Level]) -> list[TileLayout | str]:
    """The layout of each level, or why it has none that can be decoded directly.

    Args:
        path: The file that OpenSlide opened.
        info: What OpenSlide says of it.
        levels: Its geometry.

    Raises:
        DecoderError: The whole slide is of another kind, or its layout cannot be read.
    """
    if info.vendor not in _VENDORS:
        raise DecoderError(f"direct decoding does not know the format {info.vendor}")
    try:
        import tifffile

        _quieten()
        with tifffile.TiffFile(path) as tiff:
            pages: list[Any] = list(tiff.pages)
            tiled = [page for page in pages if page.is_tiled]
            return [_layout_or_reason(info, level, tiled) for level in levels]
    except Exception as error:
        # Whatever a file or a broken installation makes it raise: OpenSlide reads on.
        raise DecoderError(f"tifffile cannot read its layout ({type(error).__name__})") from error


def _quieten() -> None:
    """It tells of every oddity of a file in its log; OpenSlide has opened this one."""
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def _layout_or_reason(
    info: SlideInfo, level: Level, pages: Sequence[tifffile.TiffPage]
) -> TileLayout | str:
    try:
        return _layout(info, level, pages)
    except DecoderError as error:
        return str(error)  # the error itself would keep all callers' variables alive


def _layout(info: SlideInfo, level: Level, pages: Sequence[tifffile.TiffPage]) -> TileLayout:
    if not level.exact:
        raise DecoderError("its downsample is not a whole number")
    if info.vendor == "aperio" and any(
        page.imagewidth > level.width_px and 0 in page.databytecounts for page in pages
    ):
        # OpenSlide draws what lies over them anew, from the finer level.
        raise DecoderError("tiles are missing in a finer level")
    page, left, top = _page_of(info, level, pages)
    tiles = _tiles_of(page)
    n_cols, n_rows = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
    offsets = np.asarray(page.dataoffsets, np.int64)
    counts = np.asarray(page.databytecounts, np.int64)
    if len(offsets) != n_cols * n_rows or len(counts) != len(offsets):
        raise DecoderError("its list of tiles is incomplete")
    return TileLayout(
        tiles,
        min(page.imagewidth, level.width_px - left),
        min(page.imagelength, level.height_px - top),
        left,
        top,
        n_cols,
        offsets,
        counts,
    )


def _page_of(
    info: SlideInfo, level: Level, pages: Sequence[tifffile.TiffPage]
) -> tuple[tifffile.TiffPage, int, int]:
    """The image of a level in the file, and where on the level it begins."""
    size = level.width_px, level.height_px
    left = top = 0
    fitting = [page for page in pages if (page.imagewidth, page.imagelength) == size]
    if not fitting and info.vendor == "philips":
        fitting = [page for page in pages if _is_padded(page, level)]
    if not fitting and info.vendor == "leica" and info.has_bounds:
        x, y, width, height = (value / level.downsample for value in info.bounds_px)
        left, top = round(x), round(y)
        if abs(x - left) < _ROUNDING and abs(y - top) < _ROUNDING:
            fitting = [
                page
                for page in pages
                if abs(page.imagewidth - width) < 1 and abs(page.imagelength - height) < 1
            ]
    if not fitting:
        raise DecoderError("no tiled image of the file has the size of the level")
    if len(fitting) > 1:
        raise DecoderError("several images of the file have the size of the level")
    return fitting[0], left, top


def _is_padded(page: tifffile.TiffPage, level: Level) -> bool:
    """Whether a page is the level, filled up to whole tiles."""
    more = page.imagewidth - level.width_px, page.imagelength - level.height_px
    return 0 <= more[0] < page.tilewidth and 0 <= more[1] < page.tilelength


def _tiles_of(page: tifffile.TiffPage) -> JpegTiles | Jp2kTiles:
    compression, color = int(page.compression), int(page.photometric)
    if compression not in (_JPEG, _APERIO_RGB):
        raise DecoderError(f"its tiles are {_NAMES.get(compression, 'compressed otherwise')}")
    sampled = page.samplesperpixel == 3 and page.bitspersample == 8
    flat = int(page.planarconfig) == _CONTIG and page.imagedepth == 1
    upright = page.tags.valueof(274, default=1) == 1
    if not (sampled and flat and upright) or color not in (_RGB, _YCBCR):
        raise DecoderError("its pixels are not plain 8-bit colour")
    if not (0 < page.tilewidth <= _MAX_TILE_PX and 0 < page.tilelength <= _MAX_TILE_PX):
        raise DecoderError(f"its tiles of {page.tilewidth} x {page.tilelength} px are too large")
    if compression == _APERIO_RGB:
        if color != _RGB:
            raise DecoderError("its pixels are not plain 8-bit colour")
        return Jp2kTiles(page.tilewidth, page.tilelength)
    space: ColorSpace = "RGB" if color == _RGB else "YCbCr"
    return JpegTiles.for_page(page.tilewidth, page.tilelength, space, page.jpegtables)
