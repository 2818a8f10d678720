from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely
from shapely.geometry import shape
from support.score_maps import CLASSES, COLORS, make_score_map

from xt_backend.keys import RegionStatus
from xt_backend.outputs import rgb, write_geojson
from xt_backend.slides.lattice import Lattice
from xt_backend.store import ScoreMap


def features(path: Path, score_map: ScoreMap) -> list[dict[str, Any]]:
    write_geojson(path, score_map)
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    assert "minus" in collection["napari_xt"]["frame"]
    assert collection["napari_xt"]["bounds_corner_px"] == list(score_map.bounds_px[:2])
    found: list[dict[str, Any]] = collection["features"]
    return found


def test_tiles_lie_where_qupath_shows_the_regions(tmp_path: Path) -> None:
    score_map = make_score_map()
    found = features(tmp_path / "x.geojson", score_map)
    boxes = score_map.lattice.boxes(score_map.cells) - np.array([1000, 2000, 1000, 2000])
    for feature, box in zip(found, boxes.tolist(), strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert all(type(c) is int for point in ring for c in point)
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert list(polygon.bounds) == box
        assert polygon.exterior.is_ccw
    together = shapely.union_all([shape(feature["geometry"]) for feature in found])
    assert together.area == sum(shape(f["geometry"]).area for f in found)


def test_boxes_without_bounds_are_not_moved(tmp_path: Path) -> None:
    lattice = Lattice.for_bounds((0, 0, 3000, 3000), (0.25, 0.25), 0.5, 256)
    score_map = make_score_map(lattice=lattice, has_bounds=False)
    for feature, box in zip(
        features(tmp_path / "x.geojson", score_map),
        lattice.boxes(score_map.cells).tolist(),
        strict=True,
    ):
        assert list(shape(feature["geometry"]).bounds) == box


def test_properties_are_what_qupath_reads(tmp_path: Path) -> None:
    score_map = make_score_map()
    labels = score_map.labels()
    for i, feature in enumerate(features(tmp_path / "x.geojson", score_map)):
        properties = feature["properties"]
        assert feature["type"] == "Feature"
        assert properties["objectType"] == "tile"
        assert properties["metadata"] == {"status": RegionStatus(score_map.status[i]).label}
        if labels[i] < 0:
            assert "classification" not in properties
            assert properties["measurements"] == {f"prob_{c}": "NaN" for c in CLASSES}
        else:
            name = CLASSES[labels[i]]
            color = list(rgb(COLORS[labels[i]]))
            assert properties["classification"] == {"name": name, "color": color}
            values = [properties["measurements"][f"prob_{c}"] for c in CLASSES]
            np.testing.assert_array_equal(np.float32(values), score_map.probabilities[i])
    assert (labels < 0).sum() == 3


def test_ids_are_repeatable_and_follow_slide_model_and_cell(tmp_path: Path) -> None:
    path = tmp_path / "x.geojson"
    first = [f["id"] for f in features(path, make_score_map())]
    assert len(set(first)) == 12
    assert {UUID(i).version for i in first} == {5}
    assert [f["id"] for f in features(path, make_score_map(status=[0] * 12))] == first
    fewer = make_score_map(cells=make_score_map().cells[4:8])
    assert [f["id"] for f in features(path, fewer)] == first[4:8]
    for change in ({"slide_id": "other"}, {"model_sha256": "cd" * 32}):
        assert not set(first) & {f["id"] for f in features(path, make_score_map(**change))}


def test_compressed_and_plain_hold_the_same_and_do_not_change(tmp_path: Path) -> None:
    plain, packed = tmp_path / "x.geojson", tmp_path / "x.geojson.gz"
    write_geojson(plain, make_score_map())
    write_geojson(packed, make_score_map())
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert len(packed.read_bytes()) < len(plain.read_bytes()) / 3
    first = packed.read_bytes()
    write_geojson(packed, make_score_map())
    assert packed.read_bytes() == first


@pytest.mark.parametrize("name", ["x.geojson", "x.geojson.gz"])
def test_no_regions_give_a_valid_empty_collection(tmp_path: Path, name: str) -> None:
    write_geojson(tmp_path / name, make_score_map(cells=np.empty((0, 2), np.int32)))
    data = (tmp_path / name).read_bytes()
    collection = json.loads(gzip.decompress(data) if name.endswith("gz") else data)
    assert collection["features"] == []


def test_names_are_escaped(tmp_path: Path) -> None:
    classes = ('"quoted"', "new\nline", "\udce4")
    score_map = make_score_map(classes=classes, thresholds={}, slide_id="ü")
    names = {
        f["properties"]["classification"]["name"]
        for f in features(tmp_path / "x.geojson", score_map)
        if "classification" in f["properties"]
    }
    assert names <= set(classes)
    assert names


def test_our_own_reader_takes_it_back(tmp_path: Path) -> None:
    from xt_backend.slides import read_shapes

    score_map = make_score_map()
    write_geojson(tmp_path / "x.geojson", score_map)
    shapes = read_shapes(tmp_path / "x.geojson", offset_px=score_map.bounds_px[:2])
    boxes = score_map.lattice.boxes(score_map.cells).tolist()
    assert [list(s.geometry.bounds) for s in shapes] == boxes
