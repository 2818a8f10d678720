"""Slides with known content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

GLASS = (242, 241, 243)
TISSUE = (214, 130, 180)


def tissue_image(
    width: int, height: int, boxes: tuple[tuple[int, int, int, int], ...], seed: int = 0
) -> np.ndarray[Any, Any]:
    """Glass with boxes (x0, y0, x1, y1) of textured pink, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = GLASS
    for x0, y0, x1, y1 in boxes:
        coarse = rng.normal(0, 28, ((y1 - y0) // 8 + 1, (x1 - x0) // 8 + 1, 1))
        grain = np.kron(coarse, np.ones((8, 8, 1)))[: y1 - y0, : x1 - x0]
        image[y0:y1, x0:x1] = np.clip(np.array(TISSUE) + grain, 0, 255).astype(np.uint8)
    return image


def write_tiff_slide(
    path: Path,
    image: np.ndarray[Any, Any],
    mpp: float | None = 0.5,
    levels: int = 3,
    *,
    description: str | None = None,
) -> Path:
    """A pyramidal TIFF that OpenSlide opens as generic-tiff."""
    with tifffile.TiffWriter(path) as writer:
        for level in range(levels):
            step = 2**level
            small = Image.fromarray(image).reduce(step) if level else Image.fromarray(image)
            more: dict[str, Any] = {}
            if mpp is not None:
                per_cm = 1e4 / (mpp * step)
                more = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            writer.write(
                np.asarray(small),
                tile=(256, 256),
                photometric="rgb",
                compression="deflate",
                subfiletype=1 if level else 0,
                metadata=None,
                description=None if level else description,
                **more,
            )
    return path


def write_tissue_slide(path: Path, side: int = 1024, mpp: float | None = 0.5) -> Path:
    """One block of tissue in the middle of the glass."""
    edge = side // 4 + side // 32  # clear of the border of a region, whatever tissue adds
    box = (edge, edge, side - edge, side - edge)
    return write_tiff_slide(path, tissue_image(side, side, (box,)), mpp)
