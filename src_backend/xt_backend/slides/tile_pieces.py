"""Which parts of which tiles make up a place on a level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xt_backend.slides.tile_layout import TileLayout

__all__ = ["Box", "Piece", "around", "pieces_of"]

Box = tuple[int, int, int, int]
"""(left, top, right, lower), px of the place."""


class Piece(NamedTuple):
    """What a tile shows of a place.

    Attributes:
        tile: Its number on the level.
        to: Where it goes in the output.
        of: Where it is in the tile.
        box: (left, top, right, lower) in the output.
    """

    tile: int
    to: tuple[slice, slice]
    of: tuple[slice, slice]
    box: Box


def pieces_of(layout: TileLayout, x: int, y: int, width: int, height: int) -> list[Piece]:
    """The parts of tiles that make up a place, row by row; px from the first tile's corner."""
    tile_w, tile_h = layout.tiles.width_px, layout.tiles.height_px
    left, top = max(x, 0), max(y, 0)
    right, lower = min(x + width, layout.width_px), min(y + height, layout.height_px)
    pieces: list[Piece] = []
    if right <= left or lower <= top:
        return pieces
    for row in range(top // tile_h, -(-lower // tile_h)):
        edge_y = row * tile_h
        y0, y1 = max(edge_y, top), min(edge_y + tile_h, lower)
        to_y, of_y = slice(y0 - y, y1 - y), slice(y0 - edge_y, y1 - edge_y)
        for col in range(left // tile_w, -(-right // tile_w)):
            edge_x = col * tile_w
            x0, x1 = max(edge_x, left), min(edge_x + tile_w, right)
            pieces.append(
                Piece(
                    row * layout.n_cols + col,
                    (to_y, slice(x0 - x, x1 - x)),
                    (of_y, slice(x0 - edge_x, x1 - edge_x)),
                    (x0 - x, y0 - y, x1 - x, y1 - y),
                )
            )
    return pieces


def around(x: int, y: int, width: int, height: int, whole_w: int, whole_h: int) -> Iterator[Box]:
    """The pieces of a place that lie beside a picture of the given size."""
    left, top = min(max(-x, 0), width), min(max(-y, 0), height)
    right, lower = max(min(whole_w - x, width), left), max(min(whole_h - y, height), top)
    for box in (
        (0, 0, width, top),
        (0, lower, width, height),
        (0, top, left, lower),
        (right, top, width, lower),
    ):
        if box[0] < box[2] and box[1] < box[3]:
            yield box
