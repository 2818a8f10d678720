"""A small picture of a whole slide and where it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Thumbnail"]


@dataclass(frozen=True)
class Thumbnail:
    """The whole slide, small; its origin is the slide's level-0 pixel (0, 0).

    Attributes:
        rgb: (h, w, 3) uint8, transparent pixels shown in the slide's background colour.
        valid: (h, w) bool, True where the slide holds pixels (alpha above 0).
        scale_x: Level-0 px per thumbnail px along x.
        scale_y: Level-0 px per thumbnail px along y.
        unreadable: (h, w) bool, True where no level could be decoded, so that nobody knows
            whether there is tissue (`rgb` is background there, `valid` True); None if
            everything was read.
    """

    rgb: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.bool_]
    scale_x: float
    scale_y: float
    unreadable: npt.NDArray[np.bool_] | None = None
