"""Layout ``clam``: what CLAM's pipeline leaves and its training reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xt_backend.errors import UsageError
from xt_backend.outputs.features.h5_file import H5Dataset, h5_file
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable, Level
from xt_backend.outputs.features.tensor_file import tensor_file

__all__ = ["Clam"]


class Clam(Layout):
    """``patches/``, ``h5_files/`` and ``pt_files/``; the last is what its training reads.

    Sizes are those at level 0, which every slide has: the scale of the model need not be one of
    the slide's own.
    """

    name = "clam"

    def check(self, level: Level) -> None:
        """See `Layout`."""
        if level == "slide":
            raise UsageError(
                "CLAM knows no features of whole slides",
                "Use another layout, such as trident or stamp, or --level region",
            )

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        return (
            f"patches/{slide_id}.h5",
            f"h5_files/{slide_id}.h5",
            f"pt_files/{slide_id}.pt",
        )

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        coords = table.boxes[:, :2]
        size = np.array(table.size_px, np.int64)
        about: dict[str, Any] = {
            "patch_size": table.region_level0_px,
            "patch_level": 0,
            "downsample": np.ones(2),
            "downsampled_level_dim": size,
            "level_dim": size,
            "name": table.slide_id,
            "save_path": "patches",
        }
        yield h5_file({"coords": H5Dataset(coords, about)})
        yield h5_file(
            {"features": H5Dataset(table.vectors), "coords": H5Dataset(coords.astype(np.int32))}
        )
        yield tensor_file(table.vectors)
