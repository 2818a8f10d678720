"""Pyramidal OME-TIFFs that lie over a slide, written tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import PRODUCT
from xt_backend.publishing import publish
from xt_backend.store.plain import writer_version

__all__ = ["place_on_slide", "write_ome_tiff"]

_TILE_PX = 256

Picture = npt.NDArray[Any]


def write_ome_tiff(
    path: Path, levels: Sequence[Picture], mpp: tuple[float, float], metadata: dict[str, Any]
) -> None:
    """Publish a pyramid; the same one gives the same bytes.

    Args:
        path: Where it should go.
        levels: (h, w) or (C, h, w) each, of one type; each half as large as the one before.
        mpp: (x, y) um per pixel of the first.
        metadata: As tifffile takes it.

    Raises:
        OutputError: It cannot be written.
    """
    import tifffile

    with (
        publish(path) as temp,
        open(temp, "r+b") as file,
        tifffile.TiffWriter(file, ome=True, bigtiff=levels[0].nbytes > 2**31) as tiff,
    ):
        for number, level in enumerate(levels):
            tiff.write(
                _tiles(level),
                shape=level.shape,
                dtype=level.dtype,
                tile=(_TILE_PX, _TILE_PX),
                photometric="minisblack",
                compression="deflate",
                resolution=tuple(1e4 / (side * 2**number) for side in mpp),
                resolutionunit="CENTIMETER",
                subfiletype=1 if number else 0,
                subifds=None if number else len(levels) - 1,
                metadata=None if number else metadata,
                software=PRODUCT,
                maxworkers=1,
                buffersize=2**22,
            )


def place_on_slide(
    mpp: tuple[float, float], corner_um: tuple[float, float], n_planes: int = 1
) -> dict[str, Any]:
    """What OME says of where a picture lies: pixel size, and its corner's place on the slide.

    Args:
        mpp: (x, y) um per pixel.
        corner_um: (x, y) of the first pixel's corner, um from the slide's level-0 pixel (0, 0).
        n_planes: Channels.
    """
    return {
        "Creator": f"{PRODUCT} {writer_version()}",
        "PhysicalSizeX": mpp[0],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": mpp[1],
        "PhysicalSizeYUnit": "µm",
        "Plane": {
            "PositionX": [corner_um[0]] * n_planes,
            "PositionXUnit": ["µm"] * n_planes,
            "PositionY": [corner_um[1]] * n_planes,
            "PositionYUnit": ["µm"] * n_planes,
        },
    }


def _tiles(level: Picture) -> Iterator[Picture]:
    for plane in level.reshape(-1, *level.shape[-2:]):
        for top in range(0, plane.shape[0], _TILE_PX):
            for left in range(0, plane.shape[1], _TILE_PX):
                part = plane[top : top + _TILE_PX, left : left + _TILE_PX]
                yield np.ascontiguousarray(part)
