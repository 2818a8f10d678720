"""WSInfer's folder and the OME-TIFF of probabilities, read back by other libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from support.score_maps import CLASSES, COLORS, make_score_map

from xt_backend.errors import UsageError
from xt_backend.keys import FeaturesMeta, RunMeta
from xt_backend.outputs import PREDICTION_FORMATS, PredictionOptions, rgb
from xt_backend.slides.lattice import Lattice
from xt_backend.store import ScoreMap

RUN = {"started": "2026-11-23T08:53:20+00:00", "versions": {"torch": "2.14"}}


def write(folder: Path, name: str, score_map: ScoreMap, **options: Any) -> Path:
    made, asked = PREDICTION_FORMATS[name], PredictionOptions(run=RUN, **options)
    made.check(asked)
    path = folder / made.file(score_map.slide_id, asked)
    path.parent.mkdir(exist_ok=True)
    made.write(path, score_map, asked, None)
    made.finish(folder, score_map, asked)
    return path


def test_wsinfer_has_a_row_for_every_score(tmp_path: Path) -> None:
    score_map = make_score_map()
    path = write(tmp_path, "wsinfer", score_map)
    assert path == tmp_path / "model-outputs-csv" / "block-7.csv"
    frame = pd.read_csv(path)
    columns = [f"prob_{name}" for name in CLASSES]
    assert list(frame.columns) == ["minx", "miny", "width", "height", *columns]
    good = score_map.labels() >= 0
    assert 0 < good.sum() < len(score_map)
    boxes = score_map.lattice.boxes(score_map.cells[good])
    np.testing.assert_array_equal(frame[["minx", "miny"]], boxes[:, :2])
    np.testing.assert_array_equal(frame[["width", "height"]], boxes[:, 2:] - boxes[:, :2])
    assert (frame[["minx", "miny", "width", "height"]].dtypes == np.int64).all()
    read = frame[columns].to_numpy(np.float32)
    np.testing.assert_array_equal(read, score_map.probabilities[good])


def test_wsinfer_tells_the_model_and_no_path(tmp_path: Path) -> None:
    numerics = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    score_map = make_score_map(run_meta={RunMeta.FEATURES: {FeaturesMeta.NUMERICS: numerics}})
    write(tmp_path, "wsinfer", score_map)
    (path,) = tmp_path.glob("run_metadata_*.json")
    assert path.name == "run_metadata_20261123T085320.json"
    said = json.loads(path.read_text())
    config = said["model"]["config"]
    assert config["num_classes"] == len(config["class_names"]) == 3
    assert (config["patch_size_pixels"], config["spacing_um_px"]) == (256, 0.5)
    assert [step["name"] for step in config["transform"]] == ["Resize", "ToTensor", "Normalize"]
    assert config["transform"][2]["arguments"] == numerics
    assert said["runtime"]["versions"] == {"torch": "2.14"}
    assert said["model"]["path"] is None
    before = path.read_bytes()
    write(tmp_path, "wsinfer", score_map)
    assert len(list(tmp_path.glob("run_metadata_*.json"))) == 1
    assert path.read_bytes() == before


def opened(path: Path) -> tuple[list[np.ndarray[Any, Any]], dict[str, Any]]:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        (series,) = tiff.series
        assert series.axes == "CYX"
        levels = [level.asarray() for level in series.levels]
        pixels = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]["Pixels"]
    return levels, pixels


@pytest.mark.parametrize(
    "lattice",
    [
        Lattice.for_bounds((1000, 2000, 2500, 2000), (0.25, 0.25), 0.5, 256),
        Lattice.for_bounds((37, 11, 6000, 3000), (0.2524, 0.2619), 0.7, 224),
        Lattice.for_bounds((1000, 2000, 2500, 2000), (0.25, 0.25), 0.5, 256, 96),
    ],
    ids=["bounds", "odd", "stride"],
)
def test_the_picture_lies_where_the_regions_lie(tmp_path: Path, lattice: Lattice) -> None:
    score_map = make_score_map(lattice=lattice)
    (maps, *_), pixels = opened(write(tmp_path, "ome-tiff", score_map))
    assert maps.shape == (3, lattice.n_rows, lattice.n_cols)
    assert maps.dtype == np.float32
    col, row = score_map.cells.T
    np.testing.assert_array_equal(maps[:, row, col].T, score_map.probabilities)
    assert np.isfinite(maps[0]).sum() == (score_map.labels() >= 0).sum()
    # The middle of each pixel is the middle of its region, by what the file says of itself.
    for axis, index in (("X", col), ("Y", row)):
        size = pixels[f"PhysicalSize{axis}"]
        corner = pixels["Plane"][0][f"Position{axis}"]
        assert pixels[f"PhysicalSize{axis}Unit"] == "µm"
        number = "XY".index(axis)
        middles_px = (corner + (index + 0.5) * size) / lattice.slide_mpp[number]
        boxes = lattice.boxes(score_map.cells)
        truth = (boxes[:, number] + boxes[:, number + 2]) / 2
        assert np.abs(middles_px - truth).max() <= 1


def test_channels_have_the_names_and_colours_of_the_classes(tmp_path: Path) -> None:
    _, pixels = opened(write(tmp_path, "ome-tiff", make_score_map()))
    assert [channel["Name"] for channel in pixels["Channel"]] == list(CLASSES)
    for channel, color in zip(pixels["Channel"], COLORS, strict=True):
        packed = int(channel["Color"]) % 2**32
        assert (packed >> 24, packed >> 16 & 255, packed >> 8 & 255) == rgb(color)


def test_coarser_levels_are_means_of_what_is_there(tmp_path: Path) -> None:
    lattice = Lattice.for_bounds((0, 0, 77000, 40000), (0.25, 0.25), 0.5, 128)
    score_map = make_score_map(lattice=lattice)
    levels, _ = opened(write(tmp_path, "ome-tiff", score_map))
    assert [max(level.shape[1:]) for level in levels] == [301, 151, 76]
    fine, coarse = levels[0], levels[1]
    for row, col in ((3, 5), (70, 80), (78, 150)):
        block = fine[:, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].reshape(3, -1)
        seen = ~np.isnan(block[0])
        if seen.any():
            np.testing.assert_allclose(coarse[:, row, col], block[:, seen].mean(axis=1), rtol=1e-6)
        else:
            assert np.isnan(coarse[:, row, col]).all()


def test_slides_without_regions_have_valid_files(tmp_path: Path) -> None:
    empty = make_score_map(cells=np.empty((0, 2), np.int32))
    (maps, *_), _ = opened(write(tmp_path, "ome-tiff", empty))
    assert np.isnan(maps).all()
    assert pd.read_csv(write(tmp_path, "wsinfer", empty)).empty


@pytest.mark.parametrize("name", ["wsinfer", "ome-tiff", "parquet", "geojson"])
def test_the_same_map_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    paths = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        paths.append(write(folder, name, make_score_map()))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "option"),
    [("wsinfer", "merged"), ("parquet", "compressed"), ("ome-tiff", "compressed")],
)
def test_options_that_mean_nothing_are_refused(name: str, option: str) -> None:
    with pytest.raises(UsageError, match="means nothing for"):
        PREDICTION_FORMATS[name].check(PredictionOptions(**{option: True}))
