"""The least and the greatest of the values around each place, within a square."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["box_least", "box_most"]

Bytes = npt.NDArray[np.uint8]


def box_least(values: Bytes, size_px: int) -> Bytes:
    """Least value within a square; beyond the border of the picture nothing counts.

    The same as scipy's `minimum_filter` with ``mode="nearest"``, which takes each byte through a
    number with decimals and over ten times as long.

    Args:
        values: (h, w) uint8.
        size_px: Side of the square, odd.

    Returns:
        (h, w) uint8.
    """
    return _filtered(values, size_px, np.minimum, 255)


def box_most(values: Bytes, size_px: int) -> Bytes:
    """Greatest value within a square; see `box_least`."""
    return _filtered(values, size_px, np.maximum, 0)


def _filtered(values: Bytes, size_px: int, better: Any, outside: int) -> Bytes:
    margin = size_px // 2
    for axis in (0, 1):
        around = [(0, 0), (0, 0)]
        around[axis] = (margin, margin)
        run = np.pad(values, around, constant_values=outside)
        length = 1  # of the run of values that each place of `run` stands for
        while length < size_px:
            step = min(length, size_px - length)
            n = run.shape[axis] - step
            run = better(*(_part(run, axis, start, n) for start in (0, step)))
            length += step
        values = run
    return values


def _part(values: Bytes, axis: int, start: int, n: int) -> Bytes:
    return values[start : start + n] if axis == 0 else values[:, start : start + n]
