"""``<id>.points.csv`` and ``<id>.points.geojson``: what a detection model has found."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.outputs.geojson import collection, to_json
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.text import escape_cell, unescape_cell
from xt_backend.publishing import publish
from xt_backend.store.plain import canonical_json
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

__all__ = ["point_kinds", "read_points_csv", "write_points_csv", "write_points_geojson"]

_COLUMNS = ["x_px", "y_px", "x_um", "y_um", "class", "score"]
_ROWS_AT_ONCE = 4096
_NAMESPACE = uuid5(NAMESPACE_URL, "napari-xt/point")


def point_kinds(score_map: ScoreMap) -> tuple[str, ...]:
    """Kinds of points of a detection model: its classes but the first, "none"; else nothing."""
    return score_map.classes[1:] if score_map.task == "detection" else ()


def write_points_csv(path: Path, points: Points, score_map: ScoreMap) -> None:
    """Publish the table of points.

    Columns ``x_px,y_px`` (level-0 px in OpenSlide's frame, 0 being the slide's left and top
    edge), ``x_um,y_um`` (the same in um), ``class`` and ``score`` (0 to 1).

    Args:
        path: Where it should go.
        points: In the order to be written.
        score_map: Of the same run.

    Raises:
        OutputError: It cannot be written.
    """
    kinds = [escape_cell(name) for name in point_kinds(score_map)]
    with publish(path) as temp, open(temp, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for first in range(0, len(points), _ROWS_AT_ONCE):
            part = points.take(np.arange(first, min(first + _ROWS_AT_ONCE, len(points))))
            mpp_x, mpp_y = score_map.slide_mpp
            writer.writerows(
                zip(
                    _rounded(part.x_px),
                    _rounded(part.y_px),
                    _rounded(part.x_px * mpp_x),
                    _rounded(part.y_px * mpp_y),
                    [kinds[kind] for kind in part.kind.tolist()],
                    part.score.astype(str).tolist(),
                    strict=True,
                )
            )


def read_points_csv(path: Path, kinds: tuple[str, ...]) -> Points:
    """Read what `write_points_csv` wrote.

    Args:
        path: The table.
        kinds: Names in the order of the model.

    Raises:
        StoreCorruptError: It is no such table, or names other kinds.
        StoreError: It cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file, strict=True))
        if header != _COLUMNS:
            raise ValueError("its columns are others")
        x_px, y_px, _, _, names, scores = zip(*lines, strict=True) if lines else ((),) * 6
        index = {name: n for n, name in enumerate(kinds)}
        return Points(
            np.array(x_px, np.float64),
            np.array(y_px, np.float64),
            np.array([index[unescape_cell(name)] for name in names], np.int32),
            np.array(scores, np.float32),
        )
    except (ValueError, KeyError, csv.Error) as error:
        raise StoreCorruptError(
            f"{path.name} is no table of points of this model ({error})", "Score the slide again"
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from error


def write_points_geojson(path: Path, points: Points, score_map: ScoreMap) -> None:
    """Publish the points as QuPath detections.

    In level-0 px minus the corner of the bounds, each with its class, that one's colour and the
    score as measurement. Ids depend on slide, model, lattice, kind and place only.

    Args:
        path: Where it should go; compressed if it ends in ``.gz``.
        points: In the order to be written.
        score_map: Of the same run.

    Raises:
        OutputError: It cannot be written.
    """
    collection(path, score_map, _features(points, score_map))


def _features(points: Points, score_map: ScoreMap) -> Iterator[str]:
    run = [score_map.slide_id, score_map.model_sha256, score_map.lattice.to_dict()]
    namespace = uuid5(_NAMESPACE, canonical_json(run))
    colors = score_map.colors[-len(point_kinds(score_map)) :]
    classes = [
        to_json({"name": name, "color": rgb(color)})
        for name, color in zip(point_kinds(score_map), colors, strict=True)
    ]
    left, top = score_map.bounds_px[:2]
    for first in range(0, len(points), _ROWS_AT_ONCE):
        part = points.take(np.arange(first, min(first + _ROWS_AT_ONCE, len(points))))
        rows = zip(
            _rounded(part.x_px - left),
            _rounded(part.y_px - top),
            part.kind.tolist(),
            part.score.astype(str).tolist(),
            strict=True,
        )
        for x_px, y_px, kind, score in rows:
            yield (
                f'{{"type":"Feature","id":"{uuid5(namespace, f"{kind},{x_px},{y_px}")}",'
                f'"geometry":{{"type":"Point","coordinates":[{x_px},{y_px}]}},'
                f'"properties":{{"objectType":"detection","classification":{classes[kind]},'
                f'"measurements":{{"score":{score}}}}}}}'
            )


def _rounded(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    """To a thousandth of a pixel or um: finer digits are only noise of the arithmetic."""
    rounded: list[float] = np.round(values, 3).tolist()
    return rounded
