"""`score` over every real slide there is: a right row for each of them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xt_backend.store import ScoreMap

DONE = {
    "bcss_1008.svs",
    "bcss_1008_dicom",
    "bcss_1015_crop_leica.scn",
    "bcss_1015_crop_mirax.mrxs",
    "bcss_1015_crop_philips.tiff",
    "bcss_1015_crop_trestle.tif",
    "bcss_1015_crop_ventana.bif",
    "bcss_1015.vms",
    "her2st_C2.svs",
    "her2st_C3.tiff",
    "CMU-1-Small-Region.svs",
    "small.svs",
    "dicom-boxes",
}
EMPTY = {
    "dicom-sm": "nothing but glass",
}
FAILED = {
    "bcss_1015_crop_subifd.ome.tiff": "--slide-mpp",
    "TCGA-CR-7395-01A-01-TS1.svs": "--slide-mpp",
    "broken.svs": "plain text",
    "unreadable.svs": "level 0 at",
    "unopenable.tiff": "ompression",
    "dicom-camelyon": "28.9",
    "no_dzi.tif": "0.972",
    "boxes.tiff": "352",
    "test3-DAPI-2-(387).ndpi": "luorescence",
    "Mirax2-Fluorescence-2.mrxs": "luorescence",
}
UNLIKE = {"bcss_1008.svs", "bcss_1008_dicom", "her2st_C2.svs", "CMU-1-Small-Region.svs"}
CROPS = ("leica", "mirax", "philips", "trestle", "ventana")


@pytest.fixture(scope="module")
def run(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one `score` over the whole folder."""
    folder = tmp_path_factory.mktemp("real")
    done = subprocess.run(
        [
            sys.executable, "-c", "from xt_backend.cli import main; main()",
            "score", str(shared_data), "--model", "context-demo",
            "--out", str(folder / "run"), "--cache", str(folder / "cache"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        timeout=280,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "passed over" in done.stderr
    return folder / "run"


REGION_UM = 96.0


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "slides.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert len({row["id"] for row in table}) == len(table)
    return {row["slide"]: row for row in table}


def test_every_slide_has_the_right_row(run: Path) -> None:
    table = rows(run)
    assert set(table) == DONE | set(EMPTY) | set(FAILED)
    for name, row in table.items():
        if name in FAILED:
            assert row["status"] == "failed", (name, row)
            assert FAILED[name] in row["reason"], (name, row["reason"])
            assert not list(run.glob(f"{row['id']}.*h5"))
        elif name in EMPTY:
            assert (row["status"], row["n_regions"]) == ("empty", "0"), (name, row)
            assert EMPTY[name] in row["reason"], (name, row["reason"])
        else:
            sides_px = int(row["width_px"]), int(row["height_px"])
            small = min(sides_px) * float(row["slide_mpp"]) < REGION_UM
            reason = row["reason"]
            assert row["status"] == "done", (name, row)
            assert ("smaller than a region of the model" in reason) == small, (name, row)
            # The model has seen sample slides only.
            unlike = "out of distribution" in reason
            assert bool(reason) == (small or unlike), (name, row)
            assert unlike or name not in UNLIKE, (name, row)
            assert int(row["n_regions"]) > 0, name
            assert row["n_failed_regions"] == "0", name
    passed_over = json.loads((run / "run.json").read_text())["passed_over"]
    assert {item["file"] for item in passed_over} == {"OS-1-detail.ome.tif", "OS-2-ndpi.ome.tif"}


def test_whole_sections_are_found_without_upsampling(run: Path) -> None:
    row = rows(run)["her2st_C2.svs"]
    assert row["status"] == "done"
    assert float(row["slide_mpp"]) == pytest.approx(0.7369, abs=1e-3)
    fractions = [float(value) for name, value in row.items() if name.startswith("fraction_")]
    assert sum(fractions) == pytest.approx(1)


def test_the_same_pixels_in_any_container_give_the_same_labels_in_the_same_places(
    run: Path,
) -> None:
    maps = [ScoreMap.load(run / f"bcss_1015_crop_{name}.run.h5") for name in CROPS]
    for found in maps[1:]:
        np.testing.assert_array_equal(found.cells, maps[0].cells)
        boxes = found.lattice.boxes(found.cells) - np.tile(found.lattice.origin_px, 2)
        first = maps[0].lattice.boxes(maps[0].cells) - np.tile(maps[0].lattice.origin_px, 2)
        np.testing.assert_array_equal(boxes, first)
        # Each container holds its own JPEG of these pixels.
        assert np.mean(found.labels() == maps[0].labels()) >= 0.9
    leica = maps[CROPS.index("leica")]
    assert leica.lattice.origin_px == (4000, 4000)


def test_qupath_tiles_of_a_slide_with_bounds_start_at_zero(run: Path) -> None:
    with (run / "bcss_1015_crop_leica.geojson").open(encoding="utf-8") as file:
        features = json.load(file)["features"]
    points = np.array([feature["geometry"]["coordinates"][0] for feature in features])
    assert points.min() == 0
    assert points.max() <= 2048 + 512


def test_nothing_tells_where_the_slides_lie(run: Path, shared_data: Path) -> None:
    for path in run.rglob("*"):
        if path.is_file() and path.name != "local.json":
            assert str(shared_data).encode() not in path.read_bytes(), path.name
