"""``<id>.geojson``: the regions as QuPath tiles.

QuPath counts from the corner of a slide's bounds, so the bounds are subtracted; the file names
its frame. Features are written one at a time, whatever the size of the slide.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RESEARCH_USE
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.regions_table import PROB_PREFIX, regions_table
from xt_backend.publishing import publish
from xt_backend.store.plain import canonical_json
from xt_backend.store.score_map import ScoreMap

__all__ = ["collection", "run_namespace", "to_json", "write_geojson"]

_FEATURES_AT_ONCE = 4096
_NAMESPACE = uuid5(NAMESPACE_URL, "napari-xt/region")


def write_geojson(path: Path, score_map: ScoreMap) -> None:
    """Publish the regions as a FeatureCollection of QuPath tiles.

    Rings are closed, in whole level-0 px minus the corner of the bounds. Scored regions have
    their predicted class and its colour; all have their status as metadata and ``prob_<class>``
    as measurements ("NaN" where there is no score). Ids depend on slide, model, lattice and cell
    only, so that writing again replaces the same objects.

    Args:
        path: Where it should go; compressed if it ends in ``.gz``.
        score_map: What to write.

    Raises:
        OutputError: It cannot be written.
    """
    collection(path, score_map, _features(score_map))


def collection(path: Path, score_map: ScoreMap, features: Iterator[str]) -> None:
    """Publish a FeatureCollection of a slide, one feature at a time.

    Args:
        path: Where it should go; compressed if it ends in ``.gz``.
        score_map: Of the slide.
        features: Each as JSON text, in level-0 px minus the corner of the bounds.

    Raises:
        OutputError: It cannot be written.
    """
    x, y = score_map.bounds_px[:2]
    about = {
        "frame": "level-0 px minus the corner of the slide's bounds (openslide.bounds-x, -y)",
        "bounds_corner_px": [x, y],
        "slide": score_map.slide_id,
        "model": score_map.model_name,
        "model_sha256": score_map.model_sha256,
        "note": RESEARCH_USE,
    }
    with publish(path) as temp, _writer(temp, compressed=path.suffix == ".gz") as file:
        file.write(b'{"type":"FeatureCollection","napari_xt":' + to_json(about).encode())
        file.write(b',"features":[')
        separator = "\n"
        for feature in features:
            file.write((separator + feature).encode())
            separator = ",\n"
        file.write(b"\n]}\n")


def _features(score_map: ScoreMap) -> Iterator[str]:
    """Each feature as JSON text; put together by hand, which is five times as fast."""
    table = regions_table(score_map)
    namespace = run_namespace(score_map)
    classification = {"": ""} | {
        name: f'"classification":{to_json({"name": name, "color": rgb(color)})},'
        for name, color in zip(score_map.classes, score_map.colors, strict=True)
    }
    keys = [to_json(PROB_PREFIX + name) for name in score_map.classes]
    left, top = score_map.bounds_px[:2]
    for first in range(0, len(score_map), _FEATURES_AT_ONCE):
        part = slice(first, first + _FEATURES_AT_ONCE)
        rows = zip(
            score_map.cells[part].tolist(),
            (table.minx[part] - left).tolist(),
            (table.miny[part] - top).tolist(),
            table.width[part].tolist(),
            table.height[part].tolist(),
            table.label[part],
            table.status[part],
            _numbers(table.probabilities[part]),
            strict=True,
        )
        for (col, row), x0, y0, width, height, label, status, numbers in rows:
            x1, y1 = x0 + width, y0 + height
            ring = f"[[{x0},{y0}],[{x1},{y0}],[{x1},{y1}],[{x0},{y1}],[{x0},{y0}]]"
            pairs = ",".join(map("{}:{}".format, keys, numbers))
            yield (
                f'{{"type":"Feature","id":"{uuid5(namespace, f"{col},{row}")}",'
                f'"geometry":{{"type":"Polygon","coordinates":[{ring}]}},'
                f'"properties":{{"objectType":"tile",{classification[label]}'
                f'"measurements":{{{pairs}}},"metadata":{{"status":"{status}"}}}}}}'
            )


def _numbers(values: npt.NDArray[np.float32]) -> list[list[str]]:
    """The shortest digits that give each float32 back; QuPath reads NaN from text only."""
    digits: list[list[str]] = np.where(np.isnan(values), '"NaN"', values.astype(str)).tolist()
    return digits


def run_namespace(score_map: ScoreMap) -> UUID:
    """What ids of a run's objects are made from: slide, model and lattice."""
    run = [score_map.slide_id, score_map.model_sha256, score_map.lattice.to_dict()]
    return uuid5(_NAMESPACE, canonical_json(run))


@contextmanager
def _writer(path: Path, *, compressed: bool) -> Iterator[BinaryIO]:
    with open(path, "wb") as file:
        if not compressed:
            yield file
            return
        # Neither name nor time, so that the same map gives the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            yield cast("BinaryIO", packed)


def to_json(value: Any) -> str:
    """Compact JSON text."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
