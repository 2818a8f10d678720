"""Colours: from the hex text of models and settings to numbers."""

from __future__ import annotations

import re

from xt_backend.errors import UsageError

__all__ = ["rgb"]

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def rgb(color: str) -> tuple[int, int, int]:
    """The (r, g, b), each 0 to 255, of "#rrggbb".

    Raises:
        UsageError: It is written otherwise.
    """
    if not _HEX.fullmatch(color):
        raise UsageError(f"{color!r} is no colour", 'Write it as "#rrggbb"')
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
