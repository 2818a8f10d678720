"""Layout ``stamp``: one HDF5 file a slide, places in um, as STAMP 2 reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.errors import UsageError
from xt_backend.outputs.features.h5_file import H5Dataset, h5_file
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable
from xt_backend.store import Blocks, blocks_of, canonical_json

__all__ = ["Stamp"]

_FORMAT = "2.1.0"
"""The first STAMP with this format; it refuses files of versions newer than itself."""


class Stamp(Layout):
    """``<slide>.h5`` with ``feats`` float16 and ``coords`` float32, um of the top left corner."""

    name = "stamp"

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        return (f"{slide_id}.h5",)

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        feats = _float16(table)
        code = hashlib.sha256(canonical_json(table.numerics).encode()).hexdigest()
        common: dict[str, Any] = {"stamp_version": _FORMAT, "code_hash": code}
        if table.level == "slide":
            yield h5_file(
                {"feats": H5Dataset(feats)},
                {
                    **common,
                    "version": _FORMAT,
                    "encoder": table.encoder,
                    "precision": "float16",
                    "feat_type": "slide",
                },
            )
            return
        lattice = table.lattice
        coords_um = (table.boxes[:, :2] * np.array(lattice.slide_mpp)).astype(np.float32)
        yield h5_file(
            {"feats": H5Dataset(feats), "coords": H5Dataset(coords_um)},
            {
                **common,
                "extractor": table.encoder,
                "unit": "um",
                "tile_size_um": lattice.region_px * lattice.model_mpp,
                "tile_size_px": lattice.region_px,
                "feat_type": "tile",
            },
        )


def _float16(table: FeatureTable) -> Blocks:
    squeezed = table.squeezed

    def blocks() -> Iterator[npt.NDArray[np.float16]]:
        for block in blocks_of(squeezed):
            with np.errstate(over="ignore"):
                halved = block.astype(np.float16)
            if not np.isfinite(halved).all():
                raise UsageError(
                    f"The features of {table.slide_id} are too large for float16, which STAMP "
                    "reads",
                    "Use another layout, such as h5",
                )
            yield halved

    return Blocks(squeezed.shape, np.dtype(np.float16), blocks)
