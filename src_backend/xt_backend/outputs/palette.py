"""Colours: from the hex text of models and settings to numbers."""

from __future__ import annotations

import re

from xt_backend.errors import UsageError
from xt_backend.keys import DEFAULT_COLORS

__all__ = ["default_colors", "rgb"]

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def rgb(color: str) -> tuple[int, int, int]:
    """The (r, g, b), each 0 to 255, of "#rrggbb".

    Raises:
        UsageError: It is written otherwise.
    """
    if not _HEX.fullmatch(color):
        raise UsageError(f"{color!r} is no colour", 'Write it as "#rrggbb"')
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def default_colors(n: int) -> tuple[str, ...]:
    """As many colours as asked for, as "#rrggbb"; up to 24 of them all distinct.

    The palette first, then lighter, then darker tints of it.
    """
    colors = []
    for i in range(n):
        turn, place = divmod(i, len(DEFAULT_COLORS))
        target, share = ((0, 0.0), (255, 0.5), (0, 0.45))[turn % 3]
        if DEFAULT_COLORS[place] == "#000000" and turn % 3:
            target, share = 255, 0.3 * (turn % 3)
        mixed = (round(c + (target - c) * share) for c in rgb(DEFAULT_COLORS[place]))
        colors.append("#" + "".join(f"{c:02x}" for c in mixed))
    return tuple(colors)
