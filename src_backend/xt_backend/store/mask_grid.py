"""Where the pixels of a slide's mask lie: pure geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import DENSE_STRIDE
from xt_backend.slides.lattice import Lattice

__all__ = ["MaskGrid"]

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MaskGrid:
    """The grid of a mask: one pixel for 4 x 4 px at model mpp, from the lattice's origin.

    It covers the slide's bounds: pixels whose middle lies beyond them are not part of it.

    Attributes:
        lattice: Of the regions that the mask is put together from.
    """

    lattice: Lattice

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), at least 1 x 1."""
        width, height = (
            max(1, int(extent / step + 0.5))
            for extent, step in zip(self.lattice.extent_px, self.step_px, strict=True)
        )
        return height, width

    @property
    def step_px(self) -> tuple[float, float]:
        """(x, y) level-0 px per mask pixel."""
        x, y = (DENSE_STRIDE * self.lattice.model_mpp / mpp for mpp in self.lattice.slide_mpp)
        return x, y

    @property
    def mpp(self) -> float:
        """Um per mask pixel, along both axes."""
        return DENSE_STRIDE * self.lattice.model_mpp

    def paste(self, canvas: Mask, cells: npt.NDArray[np.int32], masks: Mask) -> None:
        """Put the masks of regions in their places; what lies beyond the bounds is cut off.

        Of overlapping regions each shows its middle, as wide as the stride; what lies in no
        middle, around the selected regions, shows the first.

        Args:
            canvas: (height, width) uint8, changed in place.
            cells: (n, 2) int (col, row).
            masks: (n, R/4, R/4) uint8, 0 where there is nothing.
        """
        lattice = self.lattice
        margin = int(lattice.margin_px) // DENSE_STRIDE
        middle = slice(margin, margin - (-lattice.stride_px // DENSE_STRIDE))
        for (col, row), mask in zip(cells.tolist(), masks, strict=True):
            top, left = ((at * lattice.stride_px) // DENSE_STRIDE for at in (row, col))
            place = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
            kept = place != 0
            kept[middle, middle] = False
            place[:] = np.where(kept, place, mask[: place.shape[0], : place.shape[1]])

    def affine_to_level0(self) -> npt.NDArray[np.float64]:
        """(3, 3) float64 from (col, row, 1) to level-0 px (x, y, 1), whole numbers being corners.

        Exact; the regions themselves start at whole level-0 px.
        """
        (step_x, step_y), (x, y) = self.step_px, self.lattice.origin_px
        return np.array([[step_x, 0.0, x], [0.0, step_y, y], [0.0, 0.0, 1.0]])

    def about(self) -> dict[str, Any]:
        """What a reader of the mask has to know, as plain values."""
        return {
            "frame": "level-0 px of the slide, bounds not subtracted",
            "origin_px": list(self.lattice.origin_px),
            "step_px": list(self.step_px),
            "slide_mpp": list(self.lattice.slide_mpp),
        }
