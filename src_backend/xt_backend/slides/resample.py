"""Exact scaling: which pyramid pixels an output pixel needs, and how they are weighed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "Level",
    "Plan",
    "Strip",
    "Window",
    "levels_of",
    "make_plan",
    "make_window",
    "resample",
    "strips",
]

MAX_STRIP_PX = 16 * 2**20
"""Raw pixels that are held at once while one output is made."""

_MAX_REDUCE = 2048
_GAP = 3.0
_HAMMING_FROM = 1.5
_TOLERANCE = 1e-6
_ROUNDING = 1e-9

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes:
        width_px: Width in its own px.
        height_px: Height in its own px.
        step_x: Level-0 px per px along x.
        step_y: Level-0 px per px along y.
        downsample: What OpenSlide converts locations with.
    """

    width_px: int
    height_px: int
    step_x: float
    step_y: float
    downsample: float

    @property
    def exact(self) -> bool:
        """Whether every px of the level starts at a whole level-0 px."""
        return self.downsample.is_integer()


def levels_of(
    dimensions: Sequence[tuple[int, int]], downsamples: Sequence[float]
) -> tuple[Level, ...]:
    """The pyramid's geometry.

    OpenSlide's downsample is the mean of width and height ratio, unless the format states one.
    The mean is taken apart again, so that each axis of a level ends where level 0 does.

    Args:
        dimensions: (width, height) of each level, its own px.
        downsamples: OpenSlide's downsample of each level.
    """
    width, height = dimensions[0]
    levels = []
    for (level_width, level_height), downsample in zip(dimensions, downsamples, strict=True):
        step_x, step_y = width / level_width, height / level_height
        if not math.isclose((step_x + step_y) / 2, downsample, rel_tol=_ROUNDING):
            step_x = step_y = downsample
        levels.append(Level(level_width, level_height, step_x, step_y, downsample))
    return tuple(levels)


@dataclass(frozen=True)
class Plan:
    """How outputs of one scale are made: from one level, perhaps reduced by a whole number.

    Attributes:
        level: Pyramid level that is read.
        reduce: Side of the squares of level px that are averaged first; the result is "raw px".
        step_x: Level-0 px per raw px along x.
        step_y: Level-0 px per raw px along y.
        ratio_x: Raw px per output px along x.
        ratio_y: Raw px per output px along y.
    """

    level: int
    reduce: int
    step_x: float
    step_y: float
    ratio_x: float
    ratio_y: float


def make_plan(
    levels: Sequence[Level], scale_x: float, scale_y: float, level: int | None = None
) -> Plan:
    """The plan for a scale, from the nearest level that is not coarser.

    Args:
        levels: The pyramid.
        scale_x: Level-0 px per output px along x.
        scale_y: Level-0 px per output px along y.
        level: Use this level instead.
    """
    if level is None:
        level = 0
        for index, candidate in enumerate(levels):
            coarseness = max(candidate.step_x / scale_x, candidate.step_y / scale_y)
            if coarseness <= 1 + _TOLERANCE and candidate.step_x >= levels[level].step_x:
                level = index
    step_x, step_y = levels[level].step_x, levels[level].step_y
    finest = min(scale_x / step_x, scale_y / step_y)
    # Averaging whole squares first keeps memory bounded and costs little accuracy while the
    # rest of the scaling is still at least threefold.
    reduce = min(int(finest / _GAP), _MAX_REDUCE) if finest >= 2 * _GAP else 1
    step_x, step_y = step_x * reduce, step_y * reduce
    return Plan(level, reduce, step_x, step_y, scale_x / step_x, scale_y / step_y)


@dataclass(frozen=True)
class Window:
    """The raw px that one output needs, neighbours included.

    Attributes:
        x: Left edge, raw px.
        y: Upper edge, raw px.
        width: Width, raw px.
        height: Height, raw px.
        box: The output's area (left, upper, right, lower) within the window, raw px.
    """

    x: int
    y: int
    width: int
    height: int
    box: tuple[float, float, float, float]

    def is_whole(self, width: int, height: int) -> bool:
        """Whether an output of this size is the window as it is."""
        whole = (0.0, 0.0, float(width), float(height))
        return (self.width, self.height) == (width, height) and self.box == whole


@dataclass(frozen=True)
class Strip:
    """Some rows of an output and what they need.

    Attributes:
        row: First output row.
        n_rows: Number of output rows.
        window: The raw px.
    """

    row: int
    n_rows: int
    window: Window


def make_window(plan: Plan, x0_px: float, y0_px: float, width: int, height: int) -> Window:
    """The raw px for an output.

    Args:
        plan: Of the output's scale.
        x0_px: Left edge, level-0 px.
        y0_px: Upper edge, level-0 px.
        width: Output px.
        height: Output px.
    """
    x, right, left_in, right_in = _extent(x0_px, plan.step_x, plan.ratio_x, width)
    y, lower, upper_in, lower_in = _extent(y0_px, plan.step_y, plan.ratio_y, height)
    return Window(x, y, right - x, lower - y, (left_in, upper_in, right_in, lower_in))


def _extent(start_px: float, step: float, ratio: float, n: int) -> tuple[int, int, float, float]:
    start = start_px / step
    end = start + n * ratio
    if abs(ratio - 1) < _ROUNDING and abs(start - round(start)) < _TOLERANCE:
        first = round(start)
        return first, first + n, 0.0, float(n)
    # A filter reaches max(ratio, 1) from the middle of an output px, one px is for rounding.
    margin = max(ratio, 1.0) - ratio / 2 + 1
    first, last = math.floor(start - margin), math.ceil(end + margin)
    return first, last, start - first, end - first


def strips(plan: Plan, x0_px: float, y0_px: float, width: int, height: int) -> Iterator[Strip]:
    """An output in rows that need at most about 16 Mpx of raw px at once.

    Args:
        plan: Of the output's scale.
        x0_px: Left edge, level-0 px.
        y0_px: Upper edge, level-0 px.
        width: Output px.
        height: Output px.
    """
    first, last, _, _ = _extent(x0_px, plan.step_x, plan.ratio_x, width)
    n_rows = max(1, int(MAX_STRIP_PX / (last - first) / plan.ratio_y) - 4)
    for row in range(0, height, n_rows):
        count = min(n_rows, height - row)
        top_px = y0_px + row * plan.ratio_y * plan.step_y
        yield Strip(row, count, make_window(plan, x0_px, top_px, width, count))


def resample(raw: Rgb, plan: Plan, window: Window, width: int, height: int) -> Rgb:
    """Scales the raw px of a window to an output, (height, width, 3) uint8.

    The filters were chosen by their distance from the exact average over each output px's area:
    linear weights up to 1.5 raw px per output px, beyond that Pillow's Hamming window. They see
    the neighbours outside the box, so that outputs side by side have no seam. Of the same slide
    with other levels they make nearly the same picture; what differs is those levels' own JPEG,
    which no other filter makes up for.

    Args:
        raw: Of the window's size, (height, width, 3) uint8; returned as it is where nothing
            needs scaling.
        plan: Of the output's scale.
        window: Where the raw px lie.
        width: Output px.
        height: Output px.
    """
    if window.is_whole(width, height):
        return raw
    coarse = min(plan.ratio_x, plan.ratio_y) >= _HAMMING_FROM
    method = Image.Resampling.HAMMING if coarse else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(raw).resize((width, height), method, box=window.box))
