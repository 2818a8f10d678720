"""Which neighbouring regions are fetched with one read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.slides.resample import Plan, Strip, Window, strips

__all__ = ["MAX_BLOCK_PX", "Block", "make_blocks", "union"]

MAX_BLOCK_PX = 4 * 2**20
"""Level px that one block read asks for at most, unless a single region needs more."""


@dataclass(frozen=True)
class Block:
    """Neighbouring regions that are read at once.

    Attributes:
        start: Place of the first region among the cells.
        strips: For each region, what it needs.
    """

    start: int
    strips: tuple[tuple[Strip, ...], ...]


def make_blocks(
    plan: Plan,
    cells: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.int64],
    region_px: int,
    *,
    max_members: int,
) -> Iterator[Block]:
    """Cuts cells into runs that touch within one lattice row, as far as they follow each other.

    Args:
        plan: Of the regions' scale.
        cells: (n, 2) int64 of (col, row).
        boxes: (n, 4) int64, their level-0 px.
        region_px: Side of a region, output px.
        max_members: Most regions in a block; none goes across a multiple of it.

    Yields:
        Blocks that together hold every cell once, in order.
    """
    budget = MAX_BLOCK_PX // (plan.reduce * plan.reduce)
    touches = np.zeros(len(cells), dtype=bool)
    touches[1:] = (
        (cells[1:, 1] == cells[:-1, 1])
        & (boxes[1:, 0] > boxes[:-1, 0])
        & (boxes[1:, 0] <= boxes[:-1, 2])
    )
    touches[::max_members] = False
    start = 0
    members: list[tuple[Strip, ...]] = []
    area: Window | None = None
    for index, (x0, y0) in enumerate(boxes[:, :2].tolist()):
        needs = tuple(strips(plan, x0, y0, region_px, region_px))
        window = union([strip.window for strip in needs])
        grown = window if area is None else union([area, window])
        if members and not (touches[index] and grown.width * grown.height <= budget):
            yield Block(start, tuple(members))
            start, members, grown = index, [], window
        members.append(needs)
        area = grown
    if members:
        yield Block(start, tuple(members))


def union(windows: Sequence[Window]) -> Window:
    """The smallest window around others; its own box is empty."""
    left, top = min(w.x for w in windows), min(w.y for w in windows)
    right = max(w.x + w.width for w in windows)
    lower = max(w.y + w.height for w in windows)
    return Window(left, top, right - left, lower - top, (0.0, 0.0, 0.0, 0.0))
