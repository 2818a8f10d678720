"""The colours of a slide's stained parts, in three numbers that do not depend on its scale."""

from __future__ import annotations

import numpy as np

from xt_backend.slides.thumbnail import Thumbnail

__all__ = ["COLOUR_NUMBERS", "stained_colours"]

COLOUR_NUMBERS = ("red", "blue", "strength")
"""What `stained_colours` gives, in this order."""

_WHITE = 255.0

_STAINED = 25.0
"""Light taken away in every channel, of 255, from which on a pixel counts as stained."""

_FEWEST = 100


def stained_colours(thumbnail: Thumbnail) -> tuple[float, float, float] | None:
    """The light that stained pixels take away.

    Args:
        thumbnail: Of the whole slide, at any scale: light adds up, so that pale gaps between
            stained things change the strength and hardly the others.

    Returns:
        Natural logarithms: how much of the red is taken away relative to the green, how much of
        the blue relative to the green, and how much on average over the three (of 255). None where
        hardly anything is stained.
    """
    seen = thumbnail.valid
    if thumbnail.unreadable is not None:
        seen = seen & ~thumbnail.unreadable
    taken = _WHITE - thumbnail.rgb[seen].astype(np.float32)
    taken = taken[(taken > _STAINED).all(axis=1)]
    if len(taken) < _FEWEST:
        return None
    red, green, blue = np.log(taken.mean(axis=0, dtype=np.float64)).tolist()
    return red - green, blue - green, float(np.log(taken.mean(dtype=np.float64)))
