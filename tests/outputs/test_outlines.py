"""Outlines of what belongs together, as QuPath gets them."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely
from shapely.geometry import shape
from support.score_maps import CLASSES, COLORS, make_score_map

from xt_backend.outputs import rgb, write_geojson
from xt_backend.outputs.outlines import outlines, write_outlines
from xt_backend.slides.lattice import Lattice
from xt_backend.store import ScoreMap

PICTURE = """
0 0 0 0 . . 1
0 1 1 0 . 2 .
0 1 0 0 2 . .
0 0 0 . . 1 1
"""
"""Class by cell; two of class 2 share a corner only, and the first class has a hole."""


def drawn(lattice: Lattice) -> ScoreMap:
    """The picture on the first cells of a lattice, all of it certain."""
    rows = [line.split() for line in PICTURE.strip().splitlines()]
    cells = [(c, r) for r, line in enumerate(rows) for c, word in enumerate(line) if word != "."]
    labels = [int(rows[r][c]) for c, r in cells]
    logits = np.full((len(cells), 3), -9, np.float32)
    logits[np.arange(len(cells)), labels] = 9
    return make_score_map(
        lattice=lattice,
        cells=np.array(cells, np.int32),
        logits=logits,
        region_only_logits=logits,
        status=np.zeros(len(cells), np.uint8),
        thresholds={},
    )


LATTICES = {
    "bounds": Lattice.for_bounds((1000, 2000, 4000, 4000), (0.25, 0.25), 0.5, 256),
    "odd": Lattice.for_bounds((37, 11, 6000, 7000), (0.2524, 0.2619), 0.7, 224),
    "none": Lattice.for_bounds((0, 0, 5000, 3000), (0.25, 0.25), 0.5, 256),
}


def features(path: Path, score_map: ScoreMap) -> list[dict[str, Any]]:
    write_outlines(path, score_map)
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    found: list[dict[str, Any]] = json.loads(text)["features"]
    return found


@pytest.mark.parametrize("name", LATTICES)
def test_outlines_are_the_union_of_the_boxes(tmp_path: Path, name: str) -> None:
    score_map = drawn(LATTICES[name])
    x, y = score_map.bounds_px[:2]
    found = features(tmp_path / "x.geojson", score_map)
    assert len(found) == 1 + 3 + 2
    boxes = score_map.lattice.boxes(score_map.cells) - np.array([x, y, x, y])
    labels = score_map.labels()
    for label, class_name in enumerate(CLASSES):
        whole = shapely.union_all(shapely.box(*boxes[labels == label].T))
        mine = [f for f in found if f["properties"]["classification"]["name"] == class_name]
        together = shapely.union_all([shape(f["geometry"]) for f in mine])
        assert together.symmetric_difference(whole).area == 0
        assert sum(shape(f["geometry"]).area for f in mine) == whole.area
    for feature in found:
        assert feature["geometry"]["type"] == "Polygon"
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.exterior.is_ccw
        assert all(
            type(c) is int
            for ring in feature["geometry"]["coordinates"]
            for point in ring
            for c in point
        )


def test_a_hole_is_a_hole_and_holds_the_other_class(tmp_path: Path) -> None:
    found = features(tmp_path / "x.geojson", drawn(LATTICES["none"]))
    first, inside = found[0]["geometry"]["coordinates"]
    assert len(first) > 5
    assert shapely.Polygon(inside).area == 3 * 512 * 512
    inner = next(f for f in found if shape(f["geometry"]).equals(shapely.Polygon(inside)))
    assert inner["properties"]["classification"]["name"] == CLASSES[1]


def test_properties_are_what_qupath_reads(tmp_path: Path) -> None:
    score_map = drawn(LATTICES["none"])
    for feature, outline in zip(
        features(tmp_path / "x.geojson", score_map), outlines(score_map), strict=True
    ):
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"] == {
            "name": CLASSES[outline.label],
            "color": list(rgb(COLORS[outline.label])),
        }
        measured = properties["measurements"]
        assert measured["n_regions"] == len(outline.rows)
        assert measured["area_um2"] == pytest.approx(len(outline.rows) * 128**2)
        assert measured[f"prob_{CLASSES[outline.label]}"] > 0.99
        assert all(isinstance(value, int | float) for value in measured.values())


def test_ids_repeat_and_differ_by_slide_model_and_place(tmp_path: Path) -> None:
    score_map = drawn(LATTICES["none"])
    first = [f["id"] for f in features(tmp_path / "x.geojson", score_map)]
    assert {UUID(one).version for one in first} == {5}
    assert len(set(first)) == len(first)
    again = features(tmp_path / "x.geojson.gz", score_map)
    assert [f["id"] for f in again] == first
    other = make_score_map(**{**vars(score_map), "model_sha256": "cd" * 32})
    assert not set(first) & {f["id"] for f in features(tmp_path / "x.geojson", other)}


def test_overlapping_regions_give_outlines_that_do_not_overlap(tmp_path: Path) -> None:
    lattice = Lattice.for_bounds((0, 0, 3000, 3000), (0.25, 0.25), 0.5, 256, 96)
    found = features(tmp_path / "x.geojson", drawn(lattice))
    shapes = [shape(f["geometry"]) for f in found]
    together = shapely.union_all(shapes)
    assert together.area == sum(one.area for one in shapes)
    # The first region's middle: 96 px of 256, at twice the slide's pixel size.
    assert together.bounds[:2] == (160, 160)


def test_large_slides_are_written_piece_by_piece(tmp_path: Path) -> None:
    lattice = Lattice.for_bounds((0, 0, 200 * 512, 200 * 512), (0.25, 0.25), 0.5, 256)
    cells = lattice.all_cells()
    logits = np.random.default_rng(0).normal(size=(len(cells), 3)).astype(np.float32)
    status = np.zeros(len(cells), np.uint8)
    score_map = make_score_map(lattice=lattice, cells=cells, logits=logits, status=status)
    for write in (write_geojson, write_outlines):
        path = tmp_path / "x.geojson"
        tracemalloc.start()
        write(path, score_map)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Whoever keeps the features as text or as objects needs the file's size, or many times it.
        assert most < 0.75 * path.stat().st_size


def test_what_has_no_score_has_no_outline(tmp_path: Path) -> None:
    score_map = make_score_map()
    rows = np.concatenate([one.rows for one in outlines(score_map)])
    assert sorted(rows.tolist()) == np.flatnonzero(score_map.labels() >= 0).tolist()
    empty = make_score_map(cells=np.empty((0, 2), np.int32))
    assert features(tmp_path / "x.geojson", empty) == []
