"""Pixels of a slide at any place and scale, on the slide's background colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from xt_backend.errors import UsageError
from xt_backend.slides.handle import Handle
from xt_backend.slides.resample import Level, Plan, Window, resample, strips

__all__ = ["MAX_OUTPUT_PX", "MAX_SOURCE_PX", "Pixels"]

MAX_OUTPUT_PX = 100_000_000
"""Largest output of one read."""
MAX_SOURCE_PX = 10_000_000_000
"""Most pyramid pixels that one read may go through."""

_TILE = 128
_READ = 4096
_OPAQUE = 64

Rgb = npt.NDArray[np.uint8]


class Pixels:
    """Reads a pyramid as if it went on for ever in its background colour.

    Every pixel has the same value whatever else is read with it, so that a region read alone and
    one cut out of a larger read are the same bytes.

    Args:
        handle: The open slide.
        levels: Its geometry.
        background_rgb: What shows through transparent pixels and around the slide.
    """

    def __init__(
        self, handle: Handle, levels: Sequence[Level], background_rgb: tuple[int, int, int]
    ) -> None:
        self._handle = handle
        self._background = background_rgb
        self.levels = tuple(levels)

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
            out[rows] = np.asarray(resample(raw, plan, strip.window, width, strip.n_rows))
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
            raw, alpha = self._raw(plan, window.x, window.y, window.width, window.height)
            rows = slice(strip.row, strip.row + strip.n_rows)
            out[rows] = np.asarray(resample(raw, plan, window, width, strip.n_rows))
            # Box: only what lies under an output px counts for it, no neighbours.
            cover = alpha.resize((width, strip.n_rows), Image.Resampling.BOX, box=window.box)
            valid[rows] = np.asarray(cover) > 0
        return out, valid

    def raw(self, plan: Plan, window: Window) -> Image.Image:
        """The raw RGB px of a window.

        Raises:
            RegionReadError: A place cannot be decoded.
        """
        return self._raw(plan, window.x, window.y, window.width, window.height)[0]

    def level(self, level: int, x_px: int, y_px: int, width: int, height: int) -> Image.Image:
        """RGB px of one level, padded with the background outside of it.

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

    def _raw(
        self, plan: Plan, x: int, y: int, width: int, height: int
    ) -> tuple[Image.Image, Image.Image]:
        k = plan.reduce
        if k == 1:
            return self._level(plan.level, x, y, width, height)
        rgb, alpha = self._blank(width, height)
        step = max(1, _READ // 2 // k)
        for top in range(0, height, step):
            for left in range(0, width, step):
                w, h = min(step, width - left), min(step, height - top)
                part, cover = self._level(plan.level, (x + left) * k, (y + top) * k, w * k, h * k)
                rgb.paste(part.reduce(k), (left, top))
                # reduce() rounds; a trace of coverage must stay one.
                alpha.paste(cover.point(lambda a: 255 if a else 0).reduce(k), (left, top))
        return rgb, alpha

    def _level(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[Image.Image, Image.Image]:
        geometry = self.levels[level]
        left, top = max(x, 0), max(y, 0)
        right, lower = min(x + width, geometry.width_px), min(y + height, geometry.height_px)
        if right <= left or lower <= top:
            return self._blank(width, height)
        read = self._exact if geometry.exact else self._inexact
        rgb, alpha = read(level, left, top, right - left, lower - top)
        if rgb.size == (width, height):
            return rgb, alpha
        whole, cover = self._blank(width, height)
        whole.paste(rgb, (left - x, top - y))
        cover.paste(alpha, (left - x, top - y))
        return whole, cover

    def _exact(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[Image.Image, Image.Image]:
        step = int(self.levels[level].downsample)
        image = self._handle.read(level, (x * step, y * step), (width, height))
        return self._composite(image)

    def _inexact(
        self, level: int, x: int, y: int, width: int, height: int
    ) -> tuple[Image.Image, Image.Image]:
        """Assembled from tiles that always start at the same places.

        The nearest whole level-0 px is up to half of one off, and OpenSlide interpolates
        accordingly; only with fixed starts is a pixel the same in every read.
        """
        geometry = self.levels[level]
        rgb, alpha = self._blank(width, height)
        for top in range(y // _TILE * _TILE, y + height, _TILE):
            for left in range(x // _TILE * _TILE, x + width, _TILE):
                tile, cover = self._tile(level, left, top, geometry)
                rgb.paste(tile, (left - x, top - y))
                alpha.paste(cover, (left - x, top - y))
        return rgb, alpha

    def _tile(
        self, level: int, left: int, top: int, geometry: Level
    ) -> tuple[Image.Image, Image.Image]:
        # The outermost px of a read at a fractional place are half transparent: one px more on
        # each side is read and cut off.
        x, y = max(left - 1, 0), max(top - 1, 0)
        right = min(left + _TILE, geometry.width_px)
        lower = min(top + _TILE, geometry.height_px)
        location = (round(x * geometry.downsample), round(y * geometry.downsample))
        image = self._handle.read(level, location, (right + 1 - x, lower + 1 - y))
        image = image.crop((left - x, top - y, right - x, lower - y))
        # The outermost px of the slide stay so. The fraction takes at most half of them per axis;
        # what is less opaque than that is so in the slide.
        opaque = image.getchannel("A").point(lambda a: 255 if a >= _OPAQUE else a)
        image.putalpha(opaque)
        return self._composite(image)

    def _composite(self, image: Image.Image) -> tuple[Image.Image, Image.Image]:
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return image.convert("RGB"), alpha
        rgb = Image.new("RGB", image.size, self._background)
        rgb.paste(image.convert("RGB"), mask=alpha)
        return rgb, alpha

    def _blank(self, width: int, height: int) -> tuple[Image.Image, Image.Image]:
        return Image.new("RGB", (width, height), self._background), Image.new("L", (width, height))


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
