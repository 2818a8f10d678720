"""``<id>.regions.parquet``: the table of regions for data frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from xt_backend.errors import UsageError
from xt_backend.outputs.regions_table import PROB_PREFIX, QUALITY, regions_table
from xt_backend.outputs.text import visible
from xt_backend.publishing import publish
from xt_backend.store.score_map import ScoreMap

__all__ = ["ABOUT", "check_parquet", "write_regions_parquet"]

ABOUT = b"napari-xt"
"""Key of the JSON in the schema's metadata."""


def check_parquet() -> None:
    """Find out before any work whether Parquet can be written.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed",
            'Install it with: pip install "napari-xt[parquet]"',
        ) from error


def write_regions_parquet(path: Path, score_map: ScoreMap) -> None:
    """Publish the table of regions as Parquet.

    The columns of regions.csv (box int64, status and label as text, prob_ float32), then col and
    row (int32) of the lattice and ``region_only_prob_<class>`` (float32), the scores without
    context. What is empty in regions.csv is null. The schema's metadata holds a JSON under
    ``napari-xt`` with slide id, model, frame and lattice.

    Args:
        path: Where it should go.
        score_map: What to write.

    Raises:
        UsageError: pyarrow is not installed.
        OutputError: It cannot be written.
    """
    check_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    table = regions_table(score_map)
    columns = {
        "minx": pa.array(table.minx),
        "miny": pa.array(table.miny),
        "width": pa.array(table.width),
        "height": pa.array(table.height),
        "status": pa.array(table.status, pa.string()),
        "label": pa.array([label or None for label in table.label], pa.string()),
    }
    for i, name in enumerate(score_map.classes):
        columns[PROB_PREFIX + visible(name)] = pa.array(table.probabilities[:, i], from_pandas=True)
    columns[QUALITY] = pa.array([word or None for word in table.quality], pa.string())
    columns["col"] = pa.array(np.ascontiguousarray(score_map.cells[:, 0]))
    columns["row"] = pa.array(np.ascontiguousarray(score_map.cells[:, 1]))
    region_only = score_map.region_only_probabilities
    for i, name in enumerate(score_map.classes):
        columns[f"region_only_{PROB_PREFIX}{visible(name)}"] = pa.array(
            region_only[:, i], from_pandas=True
        )
    about = {
        "slide": score_map.slide_id,
        "model": score_map.model_name,
        "model_sha256": score_map.model_sha256,
        "frame": "level-0 px, bounds not subtracted",
        "lattice": score_map.lattice.to_dict(),
    }
    with publish(path) as temp:
        parquet.write_table(
            pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(about).encode()}), temp
        )
