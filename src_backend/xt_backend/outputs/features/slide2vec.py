"""Layout ``slide2vec``: tensors with a JSON beside each, coordinates in NumPy archives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable
from xt_backend.outputs.features.tensor_file import tensor_file

__all__ = ["Slide2vec"]


class Slide2vec(Layout):
    """``tile_embeddings/`` and ``tiles/``, or ``slide_embeddings/``.

    A slide without regions has a tensor of no rows, where slide2vec itself writes none.
    """

    name = "slide2vec"

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        if kind.level == "slide":
            return tuple(f"slide_embeddings/{slide_id}.{end}" for end in ("meta.json", "pt"))
        return (
            f"tiles/{slide_id}.coordinates.npz",
            f"tiles/{slide_id}.coordinates.meta.json",
            f"tile_embeddings/{slide_id}.meta.json",
            f"tile_embeddings/{slide_id}.pt",
        )

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        about = {
            "sample_id": table.slide_id,
            "artifact_type": f"{'slide' if table.level == 'slide' else 'tile'}_embeddings",
            "encoder_name": table.encoder,
            "encoder_level": "slide" if table.level == "slide" else "tile",
            "feature_dim": table.dim,
            "feature_dtype": "fp32",
            "format": "pt",
            "image_path": table.slide_id,
        }
        if table.level == "region":
            yield _coordinates(table)
            yield _json({"provenance": {"sample_id": table.slide_id}, **_tiling(table)})
            tiles = f"tiles/{table.slide_id}.coordinates"
            about |= {
                "coordinates_npz_path": f"{tiles}.npz",
                "coordinates_meta_path": f"{tiles}.meta.json",
                "num_tiles": len(table.rows),
                **_sizes(table),
            }
        yield _json(about)
        yield tensor_file(table.squeezed)


def _coordinates(table: FeatureTable) -> Writer:
    tissue = np.full(len(table.cells), np.nan, np.float32) if table.tissue is None else table.tissue
    return lambda file: np.savez(
        file,
        tile_index=np.arange(len(table.rows), dtype=np.int32),
        x=table.boxes[:, 0],
        y=table.boxes[:, 1],
        tissue_fractions=tissue[table.rows],
    )


def _sizes(table: FeatureTable) -> dict[str, Any]:
    return {
        "requested_tile_size_px": table.lattice.region_px,
        "read_tile_size_px": table.lattice.region_px,
        "requested_spacing_um": table.lattice.model_mpp,
        "tile_size_lv0": table.region_level0_px,
    }


def _tiling(table: FeatureTable) -> dict[str, Any]:
    lattice = table.lattice
    return {
        "slide": {"dimensions": list(table.size_px), "base_spacing_um": table.slide_mpp},
        "tiling": {
            **_sizes(table),
            "read_spacing_um": lattice.model_mpp,
            "overlap": 1 - lattice.stride_px / lattice.region_px,
            "n_tiles": len(table.rows),
        },
    }


def _json(values: dict[str, Any]) -> Writer:
    content = (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
    return lambda file: file.write(content)
