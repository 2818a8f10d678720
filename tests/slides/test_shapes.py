"""GeoJSON as QuPath and others write it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import MultiPolygon, Polygon

from xt_backend.errors import AnnotationError
from xt_backend.slides import read_shapes, repair, shapes

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
BOW = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def _polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def _feature(geometry: Any, classification: Any = None, **properties: Any) -> dict[str, Any]:
    properties = {"objectType": "annotation", "classification": classification, **properties}
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}


def _write(path: Path, document: Any) -> Path:
    file = path / "case 1.geojson"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_feature_collection_in_order(tmp_path: Path) -> None:
    two = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [[[20, 0], [30, 0], [30, 9]]]]}
    document = {
        "type": "FeatureCollection",
        "features": [
            _feature(_polygon(SQUARE), {"name": "Tumor", "color": [200, 0, 0]}),
            _feature(two, "Stroma"),
            _feature(_polygon(SQUARE, HOLE), {"names": ["Immune cells", "CD3"]}),
            _feature(_polygon(SQUARE), None, name="drawn by me"),
        ],
    }
    found = read_shapes(_write(tmp_path, document))
    assert [shape.name for shape in found] == ["Tumor", "Stroma", "Immune cells: CD3", None]
    assert [shape.geometry.area for shape in found] == [100, 96 + 45, 96, 100]
    assert isinstance(found[1].geometry, MultiPolygon)
    assert all(shape.note == "" for shape in found)


@pytest.mark.parametrize(
    "document",
    [
        _feature(_polygon(SQUARE)),
        [_feature(_polygon(SQUARE))],
        _polygon(SQUARE),
        {"type": "GeometryCollection", "geometries": [_polygon(SQUARE)]},
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "geometry": _polygon(SQUARE)}],
        },
        _polygon([[x, y, 0.0] for x, y in SQUARE]),
        _polygon(SQUARE[:-1]),
    ],
    ids=["feature", "list", "geometry", "collection", "bare feature", "with z", "not closed"],
)
def test_other_forms(tmp_path: Path, document: Any) -> None:
    (shape,) = read_shapes(_write(tmp_path, document))
    assert shape.geometry.equals(Polygon(SQUARE))
    assert shape.name is None


def test_offset_is_added(tmp_path: Path) -> None:
    (shape,) = read_shapes(_write(tmp_path, _polygon(SQUARE)), offset_px=(4000, 300))
    assert shape.geometry.bounds == (4000, 300, 4010, 310)


def test_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "a.geojson"
    file.write_text(json.dumps(_polygon(SQUARE)), encoding="utf-8-sig")
    assert len(read_shapes(file)) == 1


def test_no_features_is_no_error(tmp_path: Path) -> None:
    assert read_shapes(_write(tmp_path, {"type": "FeatureCollection", "features": []})) == []


def test_small_crossing_is_repaired_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A lasso whose ends cross: a loop of 0.02 px beside 100 px."""
    loop = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0.1], [0.2, -0.1], [0, -0.1], [0, 0]]
    assert not Polygon(loop).is_valid
    with caplog.at_level(logging.WARNING):
        (shape,) = read_shapes(_write(tmp_path, _feature(_polygon(loop), "A")))
    assert shape.geometry.is_valid
    assert shape.geometry.area == pytest.approx(100, rel=0.01)
    assert "repaired" in shape.note
    assert "feature 1" in caplog.text


def test_bow_tie_is_refused_with_its_number(tmp_path: Path) -> None:
    uneven = [[0, 0], [10, 10], [10, 0], [0, 8], [0, 0]]
    for ring in (BOW, uneven):
        document = [_feature(_polygon(SQUARE)), _feature(_polygon(ring))]
        with pytest.raises(AnnotationError, match=r"case 1\.geojson, feature 2: .*outline"):
            read_shapes(_write(tmp_path, document))


def test_overlapping_parts_are_refused(tmp_path: Path) -> None:
    """Whether the shared part counts once, twice or not at all is unclear."""
    twice = {
        "type": "MultiPolygon",
        "coordinates": [[SQUARE], [[[5, 0], [15, 0], [15, 10], [5, 10]]]],
    }
    with pytest.raises(AnnotationError, match="feature 1"):
        read_shapes(_write(tmp_path, twice))


def test_what_has_no_area_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}
    flat = _polygon([[0, 0], [5, 0], [9, 0], [0, 0]])
    mixed = {"type": "GeometryCollection", "geometries": [line, _polygon(SQUARE)]}
    features = [_feature(line), _feature(None), _feature(flat), _feature(mixed, "A")]
    with caplog.at_level(logging.WARNING):
        (shape,) = read_shapes(_write(tmp_path, features))
    assert (shape.name, shape.geometry.area) == ("A", 100)
    assert "LineString" in shape.note
    assert [f"feature {n}" in caplog.text for n in (1, 2, 3, 4)] == [True] * 4


def test_only_points_is_an_error(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [1, 2]}
    with pytest.raises(AnnotationError, match="no area"):
        read_shapes(_write(tmp_path, [_feature(point), _feature(point)]))


@pytest.mark.parametrize(
    ("feature", "word"),
    [
        (7, "not a GeoJSON feature"),
        ({"type": "Polygon"}, "not a GeoJSON feature"),
        (_feature("x"), "geometry"),
        (_feature({"type": "Circle"}), "Circle"),
        (_feature({"type": "GeometryCollection"}), "list of geometries"),
        (_feature({"type": "MultiPolygon", "coordinates": 3}), "list of polygons"),
        (_feature(_polygon([[0, 0], [1, 1]])), "fewer than 3"),
        (_feature(_polygon([[0, 0], [1, 1], [2]])), "x and y"),
        (_feature(_polygon([[0, 0], [1, "1"], [2, 2]])), "'1'"),
        (_feature(_polygon([[0, 0], [1, True], [2, 2]])), "True"),
        (_feature(_polygon([[0, 0], [1, 1e300], [2, 2]])), "not on any slide"),
        (_feature({"type": "Polygon", "coordinates": None}), "list of rings"),
        (_feature(_polygon(SQUARE), 5), "classification"),
        (_feature(_polygon(SQUARE), {"names": [1]}), "classification"),
        ({"type": "Feature", "geometry": _polygon(SQUARE), "properties": [1]}, "properties"),
    ],
)
def test_bad_features_name_file_and_number(tmp_path: Path, feature: Any, word: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        read_shapes(_write(tmp_path, [_feature(_polygon(SQUARE)), feature]))
    assert "case 1.geojson, feature 2" in caught.value.cause
    assert word in caught.value.cause
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "valid JSON"),
        ("{", "valid JSON"),
        ("5", "no GeoJSON"),
        ('{"type": "Topology"}', "Topology"),
        ('{"type": "FeatureCollection", "features": {}}', "list of features"),
        ('{"type": ["x"]}', "none of GeoJSON"),
        ("[" * 100_000, "nested"),
        ('{"type": "Polygon", "coordinates": [[[0, NaN], [1, 1], [1, 0]]]}', "not on any slide"),
        ('{"type": "Polygon", "coordinates": [[[0, Infinity], [1, 1], [1, 0]]]}', "not on any"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(AnnotationError, match=word):
        read_shapes(_write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnnotationError, match=r"none\.geojson does not exist"):
        read_shapes(tmp_path / "none.geojson")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_shapes(tmp_path)
    (tmp_path / "latin.geojson").write_bytes(b'{"type": "\xe9"}')
    with pytest.raises(AnnotationError, match="UTF-8"):
        read_shapes(tmp_path / "latin.geojson")
    monkeypatch.setattr(shapes, "MAX_BYTES", 10)
    with pytest.raises(AnnotationError, match="MiB"):
        read_shapes(_write(tmp_path, _polygon(SQUARE)))


def test_repair_for_drawn_shapes() -> None:
    assert repair(Polygon(SQUARE)) == (Polygon(SQUARE), "")
    with pytest.raises(AnnotationError, match="which side"):
        repair(Polygon(BOW))
