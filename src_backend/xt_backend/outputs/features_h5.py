"""Region features of one slide as one HDF5 file: layout ``xt``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import FeaturesH5
from xt_backend.slides import Lattice
from xt_backend.store import h5_image, publish_bytes

__all__ = ["FeatureTable", "write_features_h5"]


@dataclass(frozen=True)
class FeatureTable:
    """Features of a slide's selected regions.

    Attributes:
        cells: (n, 2) int32 (col, row).
        status: (n,) uint8 of `RegionStatus`.
        features: (n, k*k, D) float16; zeros where the region could not be read.
        numerics: What the features depend on besides pixels.
    """

    lattice: Lattice
    cells: npt.NDArray[np.int32]
    status: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float16]
    numerics: dict[str, Any]


def write_features_h5(path: Path, table: FeatureTable) -> None:
    """Publish a table.

    The file holds ``features`` (n, k*k, D) float16, ``coords`` (n, 2) int64 and ``boxes`` (n, 4)
    int64, level-0 px in OpenSlide's frame, ``cell`` (n, 2) int32 (col, row) and ``status`` (n,)
    uint8; attributes name model mpp, region size, lattice and encoder.

    Raises:
        NoSpaceError: The disk is full.
        OutputError: The folder cannot be written.
    """
    boxes = table.lattice.boxes(table.cells)
    image = h5_image(
        {
            FeaturesH5.FEATURES: table.features,
            FeaturesH5.COORDS: np.ascontiguousarray(boxes[:, :2]),
            FeaturesH5.BOXES: boxes,
            FeaturesH5.CELL: table.cells,
            FeaturesH5.STATUS: table.status,
        },
        {
            FeaturesH5.ATTR_SCHEMA: FeaturesH5.SCHEMA,
            FeaturesH5.ATTR_MPP: table.lattice.model_mpp,
            FeaturesH5.ATTR_REGION_PX: table.lattice.region_px,
            FeaturesH5.ATTR_LATTICE: json.dumps(table.lattice.to_dict(), sort_keys=True),
            FeaturesH5.ATTR_NUMERICS: json.dumps(table.numerics, sort_keys=True),
        },
    )
    publish_bytes(path, image)
