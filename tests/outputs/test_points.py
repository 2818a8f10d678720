"""Points as CSV and as QuPath detections."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.score_maps import make_score_map

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.keys import RunMeta, SlideStatus
from xt_backend.outputs import (
    SlideRow,
    point_kinds,
    read_points_csv,
    read_slides_csv,
    safe_ids,
    slide_values,
    write_points_csv,
    write_points_geojson,
    write_slides_csv,
)
from xt_backend.store import Points

KINDS = ("Tumour", "=Fat")
MAP = make_score_map(
    task="detection",
    classes=("none", *KINDS),
    thresholds={},
    run_meta={RunMeta.N_POINTS: {"Tumour": 2, "=Fat": 1}},
)
POINTS = Points(
    np.array([1000.5, 1999.125, 3400]),
    np.array([2000.0, 2100.25, 3999.9]),
    np.array([0, 1, 0], np.int32),
    np.float32([0.9, 0.5, 0.123456789]),
)


def test_the_table_has_px_and_um_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.points.csv"
    write_points_csv(path, POINTS, MAP)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["x_px", "y_px", "x_um", "y_um", "class", "score"]
    assert rows[0] == {
        "x_px": "1000.5", "y_px": "2000.0", "x_um": "250.125", "y_um": "500.0",
        "class": "Tumour", "score": "0.9",
    }  # fmt: skip
    assert rows[1]["class"] == "'=Fat"
    found = read_points_csv(path, point_kinds(MAP))
    np.testing.assert_allclose(found.x_px, POINTS.x_px, atol=1e-3)
    np.testing.assert_array_equal(found.kind, POINTS.kind)
    np.testing.assert_array_equal(found.score, POINTS.score)
    write_points_csv(path, Points.none(), MAP)
    assert len(read_points_csv(path, KINDS)) == 0


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.points.csv"
    write_points_csv(path, POINTS, MAP)
    with pytest.raises(StoreCorruptError, match="this model"):
        read_points_csv(path, ("Tumour",))
    path.write_text("minx,miny\n1,2\n")
    with pytest.raises(StoreCorruptError, match="columns"):
        read_points_csv(path, KINDS)
    with pytest.raises(StoreError, match="No such file"):
        read_points_csv(tmp_path / "none.csv", KINDS)


def test_qupath_gets_detections_without_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "a.points.geojson"
    write_points_geojson(path, POINTS, MAP)
    found = json.loads(path.read_text())
    assert found["napari_xt"]["bounds_corner_px"] == [1000, 2000]
    first, second, _ = found["features"]
    assert first["geometry"] == {"type": "Point", "coordinates": [0.5, 0.0]}
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["measurements"]["score"] == pytest.approx(0.9)
    assert second["properties"]["classification"] == {"name": "=Fat", "color": [0, 158, 115]}
    assert len({feature["id"] for feature in found["features"]}) == 3
    before = path.read_bytes()
    write_points_geojson(path, POINTS, MAP)
    assert path.read_bytes() == before
    write_points_geojson(path, Points.none(), MAP)
    assert json.loads(path.read_text())["features"] == []


def test_counts_stand_in_the_table_of_slides(tmp_path: Path) -> None:
    row = SlideRow.from_score_map(MAP, 0)
    assert row.counts == {"Tumour": 2, "=Fat": 1}
    assert row.fractions == {}
    failed = SlideRow(row=1, slide="b.svs", id="b", status=SlideStatus.FAILED)
    path = tmp_path / "slides.csv"
    write_slides_csv(path, [row, failed], MAP.classes, KINDS)
    header = path.read_text().splitlines()[0].split(",")
    assert header[header.index("fraction_=Fat") + 1 :][:3] == ["n_Tumour", "n_=Fat", "seconds_read"]
    (found, other), classes = read_slides_csv(path)
    assert (found.counts, other.counts, classes) == (row.counts, {}, MAP.classes)
    assert slide_values(found, classes, KINDS)["n_Tumour"] == 2
    write_slides_csv(path, [failed], MAP.classes)
    assert ",n_Tumour," not in path.read_text()


def test_shares_of_a_dense_model_are_those_of_its_mask() -> None:
    found = make_score_map(
        task="dense", run_meta={RunMeta.MASK_PX: {"Stroma": 30, "Tumour": 10, "Fat": 0}}
    )
    assert found.fractions() == {"Stroma": 0.75, "Tumour": 0.25, "Fat": 0.0}
    assert SlideRow.from_score_map(found, 0).fractions["Tumour"] == 0.25


def test_no_slide_takes_the_name_of_anothers_points() -> None:
    ids = safe_ids(["a.svs", "a.points.svs"])
    assert ids[0] == "a"
    assert not ids[1].endswith(".points")
