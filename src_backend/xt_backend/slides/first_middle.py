"""Where a grid that lies over a slide begins, for those who count from the middles of pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["first_middle_px"]


def first_middle_px(affine: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The middle of a grid's first pixel, counted from the middle of the slide's first pixel.

    So do DICOM and napari; here, whole numbers are else the corners of pixels.

    Args:
        affine: (3, 3) from (col, row, 1) of the grid to level-0 px (x, y, 1), whole numbers being
            corners, as of `Lattice.middles_to_level0` and `MaskGrid.affine_to_level0`.

    Returns:
        (x, y), level-0 px.
    """
    x, y, _ = affine @ [0.5, 0.5, 1.0]
    return float(x) - 0.5, float(y) - 0.5
