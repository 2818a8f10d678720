"""Drawing the thumbnail of a slide, also of one that is damaged in places."""

from __future__ import annotations

import numpy as np

from xt_backend.errors import RegionReadError, UnsupportedSlideError, UsageError
from xt_backend.slides.pixels import MAX_SOURCE_PX, Pixels
from xt_backend.slides.resample import make_plan
from xt_backend.slides.thumbnail import Thumbnail

__all__ = ["make_thumbnail"]

_SMALLEST_PIECE = 8
_MAX_FAILURES = 64
_ENOUGH = 2 / 3


class _Canvas:
    """A thumbnail in the making."""

    def __init__(
        self, pixels: Pixels, width: int, height: int, background_rgb: tuple[int, int, int]
    ) -> None:
        self.pixels = pixels
        finest = pixels.levels[0]
        self.scale_x, self.scale_y = finest.width_px / width, finest.height_px / height
        self.rgb = np.empty((height, width, 3), dtype=np.uint8)
        self.rgb[:] = background_rgb
        self.valid = np.ones((height, width), dtype=bool)
        self.unreadable = np.zeros((height, width), dtype=bool)
        self.failures = 0
        self.last_error: RegionReadError | None = None
        best = make_plan(pixels.levels, self.scale_x, self.scale_y).level
        # A finer level shows the same, a coarser one at least something.
        self.order = [*range(best, -1, -1), *range(best + 1, len(pixels.levels))]

    def draw(self, level: int, x: int, y: int, w: int, h: int) -> bool:
        plan = make_plan(self.pixels.levels, self.scale_x, self.scale_y, level)
        try:
            rgb, valid = self.pixels.render_alpha(plan, x * self.scale_x, y * self.scale_y, w, h)
        except RegionReadError as error:
            self.failures += 1
            self.last_error = error
            return False
        self.rgb[y : y + h, x : x + w] = rgb
        self.valid[y : y + h, x : x + w] = valid
        return True

    def fill(self, x: int, y: int, w: int, h: int) -> None:
        """Draws a piece; around a place that cannot be decoded, smaller and smaller ones."""
        if self.draw(self.order[0], x, y, w, h):
            return
        if max(w, h) > _SMALLEST_PIECE and self.failures < _MAX_FAILURES:
            left, upper = (w + 1) // 2, (h + 1) // 2
            for dx, dw in ((0, left), (left, w - left)):
                for dy, dh in ((0, upper), (upper, h - upper)):
                    if dw and dh:
                        self.fill(x + dx, y + dy, dw, dh)
            return
        if not any(self.draw(level, x, y, w, h) for level in self.order[1:]):
            self.unreadable[y : y + h, x : x + w] = True


def make_thumbnail(pixels: Pixels, max_px: int, background_rgb: tuple[int, int, int]) -> Thumbnail:
    """A picture of the whole slide, never enlarged.

    Its longer side is at most `max_px`, and down to two thirds of that if a level has that size.

    Where the fitting level cannot be decoded, other levels are tried, and what no level shows is
    marked unreadable.

    Args:
        pixels: The slide.
        max_px: Longest side of the result, px.
        background_rgb: Colour of what cannot be read.

    Raises:
        RegionReadError: No part of the slide can be read.
        UnsupportedSlideError: The slide lacks coarse levels and is too large to read whole.
        UsageError: `max_px` is not from 1 to 10000.
    """
    if not 1 <= max_px <= 10_000:
        raise UsageError(f"a thumbnail of {max_px} px was asked for", "Give 1 to 10000 px")
    width, height = _size(pixels, max_px)
    canvas = _Canvas(pixels, width, height, background_rgb)
    source = pixels.levels[canvas.order[0]]
    if source.width_px * source.height_px > MAX_SOURCE_PX:
        raise UnsupportedSlideError(
            f"the coarsest useful level of the slide has {source.width_px} x {source.height_px} "
            "px, too many for an overview",
            "Convert the slide to a pyramid with coarser levels",
        )
    canvas.fill(0, 0, width, height)
    if canvas.last_error is not None and canvas.unreadable.all():
        raise canvas.last_error
    unreadable = canvas.unreadable if canvas.unreadable.any() else None
    return Thumbnail(canvas.rgb, canvas.valid, canvas.scale_x, canvas.scale_y, unreadable)


def _size(pixels: Pixels, max_px: int) -> tuple[int, int]:
    # A level that is nearly as large as asked for is taken as it is: the next finer one would
    # often have to be read sixteenfold.
    for level in pixels.levels:
        if max_px * _ENOUGH <= max(level.width_px, level.height_px) <= max_px:
            return level.width_px, level.height_px
    finest = pixels.levels[0]
    shrink = max(finest.width_px, finest.height_px, max_px) / max_px
    return max(1, round(finest.width_px / shrink)), max(1, round(finest.height_px / shrink))
