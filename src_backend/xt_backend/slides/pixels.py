"""Pixels of a slide at any place and scale, on the slide's background colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.errors import UsageError
from xt_backend.slides.direct import DirectTiles
from xt_backend.slides.handle import Handle
from xt_backend.slides.resample import Level, Plan, Window, resample, strips
from xt_backend.slides.stopwatch import Stopwatch

__all__ = ["MAX_OUTPUT_PX", "MAX_SOURCE_PX", "Pixels"]

MAX_OUTPUT_PX = 100_000_000
"""Largest output of one read."""
MAX_SOURCE_PX = 10_000_000_000
"""Most pyramid pixels that one read may go through."""

_TILE = 128
_READ = 4096
_OPAQUE = 64

Rgb = npt.NDArray[np.uint8]
Cover = npt.NDArray[np.uint8] | None
"""(height, width), 0 where the slide holds no pixel; None where it holds all of them."""


class Pixels:
    """Reads a pyramid as if it went on for ever in its background colour.

    Every pixel has the same value whatever else is read with it, so that a region read alone and
    one cut out of a larger read are the same bytes.

    Args:
        handle: The open slide.
        levels: Its geometry.
        background_rgb: What shows through transparent pixels and around the slide.
        tiles: Decodes what it can without OpenSlide, into the same pixels; None for nothing.
    """

    def __init__(
        self,
        handle: Handle,
        levels: Sequence[Level],
        background_rgb: tuple[int, int, int],
        tiles: DirectTiles | None = None,
    ) -> None:
        self._handle = handle
        self._background = background_rgb
        self._tiles = tiles
        self._openslide = Stopwatch()
        self.levels = tuple(levels)

    @property
    def seconds_decode(self) -> float:
        """Spent by decoders so far, s, summed over threads; OpenSlide's include its reading."""
        direct = 0.0 if self._tiles is None else self._tiles.decoding.seconds
        return direct + self._openslide.seconds

    def render(self, plan: Plan, x0_px: float, y0_px: float, width: int, height: int) -> Rgb:
        """One output, (height, width, 3) uint8.

        Args:
            plan: Of the output's scale.
            x0_px: Left edge, level-0 px.
            y0_px: Upper edge, level-0 px.
            width: Output px.
            height: Output px.

        Raises:
            RegionReadError: A place cannot be decoded.
            UsageError: The output or what must be read for it is too large.
        """
        check_size(plan, width, height)
        out = np.empty((height, width, 3), dtype=np.uint8)
        for strip in strips(plan, x0_px, y0_px, width, height):
            raw = self.raw(plan, strip.window)
            rows = slice(strip.row, strip.row + strip.n_rows)
            out[rows] = resample(raw, plan, strip.window, width, strip.n_rows)
        return out

    def render_alpha(
        self, plan: Plan, x0_px: float, y0_px: float, width: int, height: int
    ) -> tuple[Rgb, npt.NDArray[np.bool_]]:
        """As `render`, and where the slide holds pixels, (height, width) bool.

        Raises:
            RegionReadError: A place cannot be decoded.
            UsageError: The output or what must be read for it is too large.
        """
        check_size(plan, width, height)
        out = np.empty((height, width, 3), dtype=np.uint8)
        valid = np.empty((height, width), dtype=bool)
        for strip in strips(plan, x0_px, y0_px, width, height):
            window = strip.window
            raw, cover = self._raw(plan, window.x, window.y, window.width, window.height)
            rows = slice(strip.row, strip.row + strip.n_rows)
            out[rows] = resample(raw, plan, window, width, strip.n_rows)
            if cover is None:
                valid[rows] = True
                continue
            # Box: only what lies under an output px counts for it, no neighbours.
            box = Image.Resampling.BOX
            fraction = Image.fromarray(cover).resize((width, strip.n_rows), box, window.box)
            valid[rows] = np.asarray(fraction) > 0
        return out, valid

    def raw(self, plan: Plan, window: Window) -> Rgb:
        """The raw px of a window, (height, width, 3) uint8.

        Raises:
            RegionReadError: A place cannot be decoded.
        """
        return self._raw(plan, window.x, window.y, window.width, window.height)[0]

    def is_direct(self, level: int) -> bool:
        """Whether the tiles of a level are decoded without OpenSlide, and kept."""
        return self._tiles_of(level) is not None

    def fill(self, level: int, x_px: int, y_px: int, out: Rgb) -> None:
        """As `level`, into memory of the caller.

        Args:
            level: Pyramid level.
            x_px: Left edge, px of that level; may be negative.
            y_px: Upper edge, px of that level; may be negative.
            out: (height, width, 3) uint8, filled in; spoilt where something is raised.

        Raises:
            RegionReadError: A place cannot be decoded.
        """
        height, width = out.shape[:2]
        geometry = self.levels[level]
        within = 0 <= x_px <= geometry.width_px - width and 0 <= y_px <= geometry.height_px - height
        tiles = self._tiles_of(level) if within else None
        if tiles is not None:
            self._direct(tiles, level, x_px, y_px, out)
        else:
            out[:] = self._level(level, x_px, y_px, width, height)[0]

    def level(self, level: int, x_px: int, y_px: int, width: int, height: int) -> Rgb:
        """Px of one level, (height, width, 3) uint8, padded with the background outside of it.

        Args:
            level: Pyramid level.
            x_px: Left edge, px of that level; may be negative.
            y_px: Upper edge, px of that level; may be negative.
            width: px of that level.
            height: px of that level.

        Raises:
            RegionReadError: A place cannot be decoded.
        """
        return self._level(level, x_px, y_px, width, height)[0]

    def _raw(self, plan: Plan, x: int, y: int, width: int, height: int) -> tuple[Rgb, Cover]:
        k = plan.reduce
        if k == 1:
            return self._level(plan.level, x, y, width, height)
        rgb = np.empty((height, width, 3), np.uint8)
        alpha = np.full((height, width), 255, np.uint8)
        opaque = True
        step = max(1, _READ // 2 // k)
        for top in range(0, height, step):
            for left in range(0, width, step):
                w, h = min(step, width - left), min(step, height - top)
                part, cover = self._level(plan.level, (x + left) * k, (y + top) * k, w * k, h * k)
                place = np.s_[top : top + h, left : left + w]
                rgb[place] = np.asarray(Image.fromarray(part).reduce(k))
                if cover is not None:
                    # reduce() rounds; a trace of coverage must stay one.
                    full = Image.fromarray(np.where(cover, np.uint8(255), np.uint8(0)))
                    alpha[place] = np.asarray(full.reduce(k))
                    opaque = False
        return rgb, None if opaque else alpha

    def _level(self, level: int, x: int, y: int, width: int, height: int) -> tuple[Rgb, Cover]:
        geometry = self.levels[level]
        left, top = max(x, 0), max(y, 0)
        right, lower = min(x + width, geometry.width_px), min(y + height, geometry.height_px)
        if right <= left or lower <= top:
            return self._blank(width, height)
        read = self._exact if geometry.exact else self._inexact
        rgb, cover = read(level, left, top, right - left, lower - top)
        if rgb.shape == (height, width, 3):
            return rgb, cover
        whole, alpha = self._blank(width, height)
        place = np.s_[top - y : lower - y, left - x : right - x]
        whole[place] = rgb
        alpha[place] = 255 if cover is None else cover
        return whole, alpha

    def _exact(self, level: int, x: int, y: int, width: int, height: int) -> tuple[Rgb, Cover]:
        tiles = self._tiles_of(level)
        if tiles is None:
            return self._by_openslide(level, x, y, width, height)
        rgb = np.empty((height, width, 3), np.uint8)
        return rgb, self._direct(tiles, level, x, y, rgb)

    def _tiles_of(self, level: int) -> DirectTiles | None:
        if self._tiles is None or self._tiles.reading.reasons[level]:
            return None
        return self._tiles if self.levels[level].exact else None

    def _direct(self, tiles: DirectTiles, level: int, x: int, y: int, out: Rgb) -> Cover:
        """Fills in a place that lies on a level, with OpenSlide where a tile is left to it."""
        alpha: Cover = None
        for left, top, right, lower in tiles.read(level, x, y, out):
            part, cover = self._by_openslide(level, x + left, y + top, right - left, lower - top)
            out[top:lower, left:right] = part
            if cover is not None:
                if alpha is None:
                    alpha = np.full(out.shape[:2], 255, np.uint8)
                alpha[top:lower, left:right] = cover
        return alpha

    def _by_openslide(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[Rgb, Cover]:
        step = int(self.levels[level].downsample)
        with self._openslide.running():
            image = self._handle.read(level, (x * step, y * step), (width, height))
        return self._composite(image)

    def _inexact(self, level: int, x: int, y: int, width: int, height: int) -> tuple[Rgb, Cover]:
        """Assembled from tiles that always start at the same places.

        The nearest whole level-0 px is up to half of one off, and OpenSlide interpolates
        accordingly; only with fixed starts is a pixel the same in every read.
        """
        geometry = self.levels[level]
        rgb = np.empty((height, width, 3), np.uint8)
        alpha = np.full((height, width), 255, np.uint8)
        opaque = True
        for top in range(y // _TILE * _TILE, y + height, _TILE):
            for left in range(x // _TILE * _TILE, x + width, _TILE):
                tile, cover = self._tile(level, left, top, geometry)
                x0, y0 = max(x, left), max(y, top)
                x1, y1 = min(x + width, left + tile.shape[1]), min(y + height, top + tile.shape[0])
                to = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
                of = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
                rgb[to] = tile[of]
                if cover is not None:
                    alpha[to] = cover[of]
                    opaque = False
        return rgb, None if opaque else alpha

    def _tile(self, level: int, left: int, top: int, geometry: Level) -> tuple[Rgb, Cover]:
        # The outermost px of a read at a fractional place are half transparent: one px more on
        # each side is read and cut off.
        x, y = max(left - 1, 0), max(top - 1, 0)
        right = min(left + _TILE, geometry.width_px)
        lower = min(top + _TILE, geometry.height_px)
        location = (round(x * geometry.downsample), round(y * geometry.downsample))
        with self._openslide.running():
            image = self._handle.read(level, location, (right + 1 - x, lower + 1 - y))
        image = image.crop((left - x, top - y, right - x, lower - y))
        # The outermost px of the slide stay so. The fraction takes at most half of them per axis;
        # what is less opaque than that is so in the slide.
        opaque = image.getchannel("A").point(lambda a: 255 if a >= _OPAQUE else a)
        image.putalpha(opaque)
        return self._composite(image)

    def _composite(self, image: Image.Image) -> tuple[Rgb, Cover]:
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return np.asarray(image.convert("RGB")), None
        rgb = Image.new("RGB", image.size, self._background)
        rgb.paste(image.convert("RGB"), mask=alpha)
        return np.asarray(rgb), np.asarray(alpha)

    def _blank(self, width: int, height: int) -> tuple[Rgb, npt.NDArray[np.uint8]]:
        rgb = np.empty((height, width, 3), np.uint8)
        rgb[:] = self._background
        return rgb, np.zeros((height, width), np.uint8)


def check_size(plan: Plan, width: int, height: int) -> None:
    """Refuses an output that would take too much memory or time.

    Args:
        plan: Of the output's scale.
        width: Output px.
        height: Output px.

    Raises:
        UsageError: More than 100 Mpx of output or 10 Gpx of source.
    """
    if width * height > MAX_OUTPUT_PX:
        raise UsageError(
            f"{width} x {height} px is more than the {MAX_OUTPUT_PX // 10**6} Mpx that one read "
            "may return",
            "Read smaller pieces or at a coarser mpp",
        )
    source = math.prod((width * plan.ratio_x, height * plan.ratio_y, plan.reduce, plan.reduce))
    if source > MAX_SOURCE_PX:
        raise UsageError(
            f"{source / 1e9:.0f} Gpx of the slide would have to be decoded for this read",
            "Read a smaller area, or add coarser levels to the slide",
        )
