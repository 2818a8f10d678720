"""A whole-slide image: what it is, and its pixels at any place and scale."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import SlideChangedError, SlideMppError, SlideOpenError, UsageError
from xt_backend.slides import mpp as mpp_rules
from xt_backend.slides.companions import missing_files, slide_files
from xt_backend.slides.direct import DirectTiles
from xt_backend.slides.identity import identity_of, stamp_files
from xt_backend.slides.info import SlideInfo, read_info
from xt_backend.slides.mpp import SlideMpp
from xt_backend.slides.opening import open_handle
from xt_backend.slides.overview import make_thumbnail
from xt_backend.slides.pixels import Pixels, check_size
from xt_backend.slides.reading import READER_VARIABLE, Reading, wants_direct
from xt_backend.slides.resample import Plan, levels_of, make_plan
from xt_backend.slides.thumbnail import Thumbnail

__all__ = ["Slide", "open_slide"]


def open_slide(
    path: str | os.PathLike[str],
    slide_mpp: float | None = None,
    *,
    accept_objective_mpp: bool = False,
) -> Slide:
    """Opens a whole-slide image, read-only.

    Args:
        path: A file in a format of OpenSlide, or a folder with the DICOM files of one slide.
        slide_mpp: um/px at level 0; wins over what the file says.
        accept_objective_mpp: Where the file states no believable pixel size, take 10 um divided
            by its objective power.

    Raises:
        SlideOpenError: There is no slide that can be read; the text says why.
        SlideMppError: `slide_mpp` is not a number from 0.05 to 5.

    Example:
        >>> import xt_backend as xt
        >>> with xt.open_slide("slide.tiff") as slide:
        ...     picture = slide.read(600, 600, 256, 256, mpp=2.0)  # from level-0 px (600, 600)
        >>> picture.shape, picture.dtype
        ((256, 256, 3), dtype('uint8'))
    """
    return Slide(Path(path), slide_mpp, accept_objective_mpp=accept_objective_mpp)


class Slide:
    """An open slide; a context manager. Reads may come from several threads.

    Attributes:
        path: As given; never written to any output.
        info: What is known without reading pixels.
        pixels: Reads by plan, for `Reader`.
        missing: Which of its files are missing, so that some places cannot be read; else empty.

    Example:
        >>> import xt_backend as xt
        >>> with xt.open_slide("slide.tiff", slide_mpp=0.25) as slide:
        ...     slide.info.width_px, slide.info.mpp.x, slide.info.mpp.source
        (3072, 0.25, 'user')
    """

    path: Path
    info: SlideInfo
    pixels: Pixels
    missing: str

    def __init__(
        self, path: Path, slide_mpp: float | None = None, *, accept_objective_mpp: bool = False
    ) -> None:
        user_mpp = None if slide_mpp is None else mpp_rules.mpp_from_user(slide_mpp)
        reason = "" if wants_direct() else f"{READER_VARIABLE} says so"
        self.path = path
        self._handle, opened = open_handle(path)
        try:
            try:
                self.missing = missing_files(opened)
                self._files = slide_files(opened)
            except OSError as error:
                raise SlideOpenError(
                    f"the files beside the slide cannot be listed: {error.strerror}",
                    "Ask for read permission or copy the slide with all its files",
                ) from None
            self._stamp = stamp_files(self._files)
            self.info = read_info(path, self._handle, user_mpp, accept_objective_mpp)
            levels = levels_of(self.info.level_dimensions, self.info.level_downsamples)
            self._tiles = DirectTiles(opened, self._handle, self.info, levels, reason=reason)
            self.pixels = Pixels(self._handle, levels, self.info.background_rgb, self._tiles)
        except BaseException:
            self._handle.close()
            raise

    @property
    def reading(self) -> Reading:
        """Who decodes the slide's tiles; compares some of them when first asked or read."""
        return self._tiles.reading

    def require_mpp(self) -> SlideMpp:
        """The pixel size at level 0.

        Raises:
            SlideMppError: It is unknown or not believable; the text says what to do.
        """
        if self.info.mpp is None:
            raise SlideMppError(self.info.mpp_problem, mpp_rules.WAY_OUT)
        return self.info.mpp

    def plan(self, mpp: float) -> Plan:
        """How outputs at this pixel size are made.

        Args:
            mpp: um per output px.

        Raises:
            UsageError: Not a number above 0.
            SlideMppError: The slide's own pixel size is unknown.
        """
        slide_mpp = self.require_mpp()
        if not (math.isfinite(mpp) and mpp > 0):
            raise UsageError(f"{mpp} um/px was asked for", "Give a pixel size above 0")
        return make_plan(self.pixels.levels, mpp / slide_mpp.x, mpp / slide_mpp.y)

    def read(
        self, x0_px: float, y0_px: float, out_width_px: int, out_height_px: int, mpp: float
    ) -> npt.NDArray[np.uint8]:
        """The pixels of one place at one scale, (out_height_px, out_width_px, 3) uint8.

        Scaled exactly, from the nearest finer level. What lies outside the slide or was not
        scanned has the background's colour.

        Args:
            x0_px: Left edge, level-0 px; may be fractional or outside.
            y0_px: Upper edge, level-0 px; may be fractional or outside.
            out_width_px: Width of the result.
            out_height_px: Height of the result.
            mpp: um per px of the result.

        Raises:
            RegionReadError: The place cannot be decoded.
            SlideMppError: The slide's pixel size is unknown.
            UsageError: Nothing of the place lies on the slide, or a value makes no sense or
                asks for more than 100 Mpx.
        """
        plan = self.plan(mpp)
        if out_width_px < 1 or out_height_px < 1:
            raise UsageError(
                f"{out_width_px} x {out_height_px} px were asked for", "Ask for at least 1 x 1 px"
            )
        if not (math.isfinite(x0_px) and math.isfinite(y0_px)):
            raise UsageError(f"the place ({x0_px}, {y0_px}) is not finite", "Give level-0 px")
        self._check_place(
            (x0_px, y0_px),
            (
                out_width_px * plan.ratio_x * plan.step_x,
                out_height_px * plan.ratio_y * plan.step_y,
            ),
            (self.info.width_px, self.info.height_px),
        )
        return self.pixels.render(plan, x0_px, y0_px, int(out_width_px), int(out_height_px))

    def read_level(
        self, level: int, x_px: int, y_px: int, width_px: int, height_px: int
    ) -> npt.NDArray[np.uint8]:
        """Pixels of one pyramid level as they are, (height_px, width_px, 3) uint8.

        Args:
            level: 0 to the number of levels - 1.
            x_px: Left edge in px of that level; may be outside.
            y_px: Upper edge in px of that level; may be outside.
            width_px: px of that level.
            height_px: px of that level.

        Raises:
            RegionReadError: The place cannot be decoded.
            UsageError: No such level, nothing of the place lies on it, or more than 100 Mpx.
        """
        levels = self.pixels.levels
        if not 0 <= level < len(levels):
            raise UsageError(
                f"the slide has no level {level}", f"Give a level from 0 to {len(levels) - 1}"
            )
        if width_px < 1 or height_px < 1:
            raise UsageError(
                f"{width_px} x {height_px} px were asked for", "Ask for at least 1 x 1"
            )
        self._check_place(
            (x_px, y_px), (width_px, height_px), (levels[level].width_px, levels[level].height_px)
        )
        check_size(Plan(level, 1, 1.0, 1.0, 1.0, 1.0), width_px, height_px)
        return self.pixels.level(level, int(x_px), int(y_px), int(width_px), int(height_px))

    def thumbnail(self, max_px: int = 1024) -> Thumbnail:
        """A picture of the whole slide, never enlarged.

        Args:
            max_px: Most px on the longer side, 1 to 10000; two thirds of that if a level of the
                slide has that size.

        Raises:
            RegionReadError: No part of the slide can be read.
            UnsupportedSlideError: The slide lacks coarse levels and is too large to read whole.
            UsageError: `max_px` is out of range.
        """
        return make_thumbnail(self.pixels, max_px, self.info.background_rgb)

    def identity(self) -> str:
        """A sha256 (64 hexadecimal digits) of the content, the same for a copy elsewhere.

        Raises:
            SlideError: A file of the slide cannot be read any more.
        """
        return identity_of(self._files, self._handle.properties.get("openslide.quickhash-1"))

    def has_changed(self) -> bool:
        """Whether a file of the slide has another size or time than when it was opened."""
        return stamp_files(self._files) != self._stamp

    def check_unchanged(self) -> None:
        """Refuse what was made of a slide that `has_changed`.

        Raises:
            SlideChangedError: It has.
        """
        if self.has_changed():
            raise SlideChangedError(
                f"{self.info.name} changed while it was being read",
                "Run again when the file is at rest",
            )

    def close(self) -> None:
        """Lets go of the files. Reads under way in other threads finish."""
        self._tiles.close()
        self._handle.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Slide({self.info.name!r}, {self.info.width_px} x {self.info.height_px} px)"

    @staticmethod
    def _check_place(
        corner: tuple[float, float], size: tuple[float, float], whole: tuple[int, int]
    ) -> None:
        for start, length, limit in zip(corner, size, whole, strict=True):
            if start >= limit or start + length <= 0:
                raise UsageError(
                    f"the place at ({corner[0]:g}, {corner[1]:g}) px, {size[0]:g} x {size[1]:g} px "
                    f"large, lies outside of the {whole[0]} x {whole[1]} px there are",
                    "Give a place that overlaps the slide",
                )
