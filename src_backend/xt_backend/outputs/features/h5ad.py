"""Layout ``h5ad``: AnnData as the tools of scverse, and LazySlide among them, expect it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from xt_backend.errors import UsageError
from xt_backend.outputs.features.columns import row_columns
from xt_backend.outputs.features.h5_file import H5Dataset, add_dataset
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable, Level
from xt_backend.store import h5_stream

__all__ = ["H5ad"]

_TILES = "tiles"
"""LazySlide's name of the shapes that a table of features belongs to."""


class H5ad(Layout):
    """``<id>.features.h5ad``.

    ``X`` (n, D) float32; ``obs`` with ``tile_id``, ``library_id`` ("tiles", the shapes that the
    table belongs to, as in LazySlide), ``slide``, place, status and predictions; ``obsm``
    ``spatial`` (n, 2), the regions' middles in level-0 px; ``uns`` with what SpatialData and
    squidpy look for, and under ``napari_xt`` a JSON of what the features are.
    """

    name = "h5ad"
    own_folder = False

    def check(self, level: Level) -> None:
        """See `Layout`."""
        try:
            import anndata  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "h5ad needs anndata, which is not installed",
                'Install it with: pip install "napari-xt[h5ad]"',
            ) from error

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        return (f"{slide_id}.{kind.prefix}features.h5ad",)

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        yield lambda file: _write(file, table)


def _write(file: IO[bytes], table: FeatureTable) -> None:
    from anndata.io import write_elem

    with h5_stream(file) as stream:
        write_elem(stream.file, "/", _annotated(table))
        # As anndata writes an array, but block by block.
        about = {"encoding-type": "array", "encoding-version": "0.2.0"}
        add_dataset(stream, "X", H5Dataset(table.matrix, about))


def _annotated(table: FeatureTable) -> Any:
    import pandas as pd
    from anndata import AnnData

    number = np.arange(len(table.matrix))
    if table.level == "slide":
        names = [table.slide_id] * len(number)
    else:
        names = [f"{table.slide_id}_{col}_{row}" for col, row in table.cells[table.rows].tolist()]
    obs = pd.DataFrame(index=pd.Index(names, dtype=object))
    obs["tile_id"] = number
    obs["library_id"] = _words([_TILES] * len(number), [_TILES])
    obs["slide"] = _words([table.slide_id] * len(number), [table.slide_id])
    for name, values in row_columns(table).items():
        obs[name] = _words(values) if isinstance(values, list) else values
    var = pd.DataFrame(index=pd.Index([str(i) for i in range(table.dim)], dtype=object))
    made = AnnData(obs=obs, var=var)
    if table.level == "region":
        made.obsm["spatial"] = (table.boxes[:, :2] + table.boxes[:, 2:]) / 2
    # What SpatialData's TableModel and squidpy's spot plots ask for.
    made.uns["spatialdata_attrs"] = {
        "region": _TILES,
        "region_key": "library_id",
        "instance_key": "tile_id",
    }
    made.uns["spatial"] = {
        _TILES: {
            "images": {},
            "scalefactors": {
                "spot_diameter_fullres": float(table.region_level0_px),
                "tissue_hires_scalef": 1.0,
            },
        }
    }
    made.uns["napari_xt"] = json.dumps(table.about(), sort_keys=True)
    return made


def _words(values: list[Any], known: list[str] | None = None) -> Any:
    """A categorical column; its words are plain objects, which every anndata can write."""
    import pandas as pd

    known = sorted({value for value in values if value is not None}) if known is None else known
    return pd.Categorical(values, categories=pd.Index(known, dtype=object))
