"""Masks and points: from annotations to a model, its evaluation and its score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from support.training import tiny_training

from xt_backend import score
from xt_backend.errors import AnnotationError
from xt_backend.model import load_model
from xt_backend.training import (
    EvaluateSpec,
    MaskMetrics,
    PointMetrics,
    TrainSpec,
    evaluate,
    train,
)

from .conftest import SIDE_PX, WriteAnnotations

N_OBJECTS = 24


@pytest.fixture(scope="module")
def dotted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pale slides with dark dots of 12 px, marked by points; one in an area only."""
    folder = tmp_path_factory.mktemp("dotted")
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for index in range(5):
        rng = np.random.default_rng(index)
        pixels = np.empty((SIDE_PX, SIDE_PX, 3))
        pixels[:] = (230, 170, 200)
        cells = rng.permutation(64)[:N_OBJECTS]
        centres = np.stack([cells % 8, cells // 8], axis=1) * 64 + rng.uniform(
            16, 48, (len(cells), 2)
        )
        for cx, cy in centres:
            pixels[np.hypot(x - cx, y - cy) < 6] = (70, 30, 110)
        pixels += rng.normal(0, 6, pixels.shape)
        tifffile.imwrite(
            folder / f"d{index}.tif",
            np.clip(pixels, 0, 255).astype(np.uint8),
            tile=(128, 128),
            photometric="rgb",
        )
        write_points(folder / f"d{index}.geojson", centres, half=index == 1)
    return folder


def write_points(path: Path, centres: np.ndarray, *, half: bool) -> None:
    """A MultiPoint, one point, one outline; with `half`, only those of the left half, and it."""
    kind = {"classification": {"name": "cell"}}
    if half:
        centres = centres[centres[:, 0] < SIDE_PX / 2]
    cx, cy = centres[1]
    ring = [
        [cx - 5, cy - 5],
        [cx + 5, cy - 5],
        [cx + 5, cy + 5],
        [cx - 5, cy + 5],
        [cx - 5, cy - 5],
    ]
    shapes: list[tuple[str, Any, dict[str, Any]]] = [
        ("MultiPoint", centres[2:].tolist(), kind),
        ("Point", centres[0].tolist(), kind),
        ("Polygon", [ring], kind),
    ]
    if half:
        end = SIDE_PX / 2
        area = [[0, 0], [end, 0], [end, SIDE_PX], [0, SIDE_PX], [0, 0]]
        shapes.append(("Polygon", [area], {}))
    features = [
        {"type": "Feature", "geometry": {"type": t, "coordinates": c}, "properties": p}
        for t, c, p in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def make_spec(folder: Path, out: Path, **changes: Any) -> TrainSpec:
    settings = {
        "cache": out.parent / "cache",
        "epochs": 12,
        "slides_per_step": 1,
        "lr": 1e-2,
        **changes,
    }
    return tiny_training(folder, out, **settings)


OPTIONS: dict[str, Any] = {"slide_mpp": 1.0, "tissue": "all"}


@pytest.mark.parametrize("end_to_end", [False, True])
def test_dense(slides_folder: Path, tmp_path: Path, end_to_end: bool) -> None:
    out = tmp_path / "dense.safetensors"
    result = train(
        make_spec(
            slides_folder, out, task="dense", end_to_end=end_to_end, epochs=2 if end_to_end else 12
        )
    )
    card = load_model(out).card
    assert card.task == "dense"
    assert card.region_encoder.source == ("trained" if end_to_end else "random:0")
    assert isinstance(result.pixels, MaskMetrics)
    (regions,) = result.counts
    assert sum(regions.train.values()) == 4 * 64
    assert sum((regions.val or {}).values()) == 64
    assert result.pixels.n_px == 64 * 16 * 16
    assert result.pixels.n_failed_px == 0
    if end_to_end:
        return
    assert result.pixels.mean_dice.value > 0.95
    assert result.history[-1]["val_dice"] > 0.95

    slide = slides_folder / "s1.tif"
    report = evaluate(
        EvaluateSpec(
            model=str(out), slides=slide, annotations=slides_folder, compare_context=True,
            bootstrap=20, **OPTIONS,
        )
    )  # fmt: skip
    assert isinstance(report.pixels, MaskMetrics)
    assert report.pixels.iou["dark"].value > 0.9
    assert isinstance(report.region_only_pixels, MaskMetrics)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["pixels"]["n_px"] == 16384
    score(slide, str(out), tmp_path / "run", **OPTIONS)
    mask = tifffile.imread(tmp_path / "run" / "s1.mask.ome.tiff")
    true = np.where(np.arange(mask.shape[1]) * SIDE_PX / mask.shape[1] < 192, 1, 2)
    assert (mask == true[None, :]).mean() > 0.95


def test_detection(dotted: Path, tmp_path: Path) -> None:
    out = tmp_path / "detection.safetensors"
    result = train(
        make_spec(
            dotted, out, task="detection", peak_radius_um=8.0, epochs=8,
            workers=0,
        )
    )  # fmt: skip
    card = load_model(out).card
    assert card.class_names == ("none", "cell")
    assert card.point_kinds == ("cell",)
    assert card.detection.peak_radius_um == 8.0
    assert isinstance(result.pixels, PointMetrics)
    assert result.pixels.n_objects == {"cell": N_OBJECTS}
    regions, objects = result.counts
    assert (regions.unit, list(regions.train)) == ("regions", ["none", "cell"])
    assert (objects.unit, list(objects.train)) == ("objects", ["cell"])
    assert objects.val == {"cell": N_OBJECTS}
    assert 3 * N_OBJECTS < objects.train["cell"] <= 4 * N_OBJECTS
    assert result.pixels.f1["cell"].value > 0.8
    assert not [text for text in result.warnings if "cell is" in text or "not one" in text]
    assert 0 < card.detection.thresholds["cell"] < 1

    report = evaluate(EvaluateSpec(model=str(out), slides=dotted, bootstrap=20, **OPTIONS))
    assert isinstance(report.pixels, PointMetrics)
    assert report.pixels.f1["cell"].value > 0.8
    assert report.pixels.resampled == "slides"
    # Nothing counts that was not searched.
    assert 4 * N_OBJECTS < report.pixels.n_objects["cell"] < 5 * N_OBJECTS

    score(dotted / "d0.tif", str(out), tmp_path / "run", **OPTIONS)
    points = pd.read_csv(tmp_path / "run" / "d0.points.csv")
    assert abs(len(points) - N_OBJECTS) < 8


def test_objects_that_nothing_shows_are_told_and_the_loss_stays_small(
    dotted: Path, tmp_path: Path
) -> None:
    """Three points a slide, anywhere: the first steps must not call all of the ground an object."""
    folder = tmp_path / "slides"
    shutil.copytree(dotted, folder)
    for index in range(5):
        centres = np.random.default_rng(100 + index).uniform(20, SIDE_PX - 20, (3, 2))
        write_points(folder / f"d{index}.geojson", centres, half=False)
    heard: list[str] = []
    result = train(
        make_spec(
            folder, tmp_path / "m.safetensors", task="detection", peak_radius_um=8.0, epochs=3,
            field_regions=0, lr=2e-3, workers=0,
        ),
        lambda told: heard.extend(told.lines),
    )  # fmt: skip
    assert max(max(row["loss"], row["val_loss"]) for row in result.history) < 50
    (warning,) = [text for text in result.warnings if "cell" in text]
    assert "not one cell" in warning or "hardly better than by chance" in warning
    assert f"Warning: {warning}" in heard
    assert warning in result.to_dict()["notes"]


def test_objects_in_every_region(dotted: Path, tmp_path: Path) -> None:
    """As nuclei are: no region teaches that there is none, the ground between them does."""
    folder = tmp_path / "slides"
    shutil.copytree(dotted, folder)
    middles = np.arange(32, SIDE_PX, 64)
    centres = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2).astype(float)
    for index in range(5):
        write_points(folder / f"d{index}.geojson", centres, half=False)
    out = tmp_path / "detection.safetensors"
    result = train(make_spec(folder, out, task="detection", epochs=1))
    assert isinstance(result.pixels, PointMetrics)
    assert result.pixels.n_objects == {"cell": len(centres)}
    assert load_model(out).card.point_kinds == ("cell",)


def test_folds_of_masks(slides_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "dense.safetensors"
    result = train(make_spec(slides_folder, out, task="dense", folds=2, epochs=1))
    assert isinstance(result.pixels, MaskMetrics)
    assert result.pixels.n_px == 5 * 64 * 16 * 16
    assert load_model(out).card.metrics["cross_validation_pixels"]["n_px"] == result.pixels.n_px


@pytest.mark.parametrize(
    ("name", "message"),
    [(None, "points have no class"), ("none", "kinds of objects are: none")],
)
def test_objects_that_cannot_be_learnt(
    dotted: Path, tmp_path: Path, name: str | None, message: str
) -> None:
    folder = tmp_path / "slides"
    shutil.copytree(dotted, folder)
    properties = {"classification": {"name": name}} if name else {}
    for index in range(5):
        feature = {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [5, 5]},
            "properties": properties,
        }
        (folder / f"d{index}.geojson").write_text(json.dumps(feature))
    with pytest.raises(AnnotationError, match=message):
        train(make_spec(folder, tmp_path / "m.safetensors", task="detection"))


def test_areas_are_no_objects(
    slides_folder: Path, tmp_path: Path, write_annotations: WriteAnnotations
) -> None:
    with pytest.raises(AnnotationError, match=r"too large for an object of 8 um.*with --classes"):
        train(make_spec(slides_folder, tmp_path / "m.safetensors", task="detection"))


def test_areas_of_other_classes_beside_objects(dotted: Path, tmp_path: Path) -> None:
    """Nobody has to edit files: what is not named is left out, and said to be."""
    folder = tmp_path / "slides"
    shutil.copytree(dotted, folder)
    ring = [[0, 0], [300, 0], [300, 400], [0, 400], [0, 0]]
    area = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "Tumor"}},
    }
    for name in ("d0", "d2"):
        path = folder / f"{name}.geojson"
        document = json.loads(path.read_text())
        document["features"].append(area)
        path.write_text(json.dumps(document))
    out = tmp_path / "m.safetensors"
    changes: dict[str, Any] = {"task": "detection", "peak_radius_um": 8.0, "epochs": 1}
    with pytest.raises(
        AnnotationError,
        match=r"d\d\.geojson: .*class Tumor is 400 um.*--classes cell, which leaves",
    ):
        train(make_spec(folder, out, **changes))
    result = train(make_spec(folder, out, **changes, classes=("cell",)))
    said = "annotations of classes that --classes does not name are left out: "
    assert f"{said}Tumor (2, in d0.geojson)" in result.warnings
    assert load_model(out).card.point_kinds == ("cell",)
    without = make_spec(dotted, tmp_path / "w.safetensors", **changes, name="m")
    assert train(without).counts == result.counts

    spec = EvaluateSpec(model=str(out), slides=folder, bootstrap=0, **OPTIONS)
    with pytest.raises(AnnotationError, match=r"m does not know: Tumor .*--leave-out Tumor"):
        evaluate(spec)
    report = evaluate(spec.model_copy(update={"leave_out": ("Tumor",)}))
    assert report.warnings == (
        "annotations of classes that m does not know are left out: Tumor (2, in d0.geojson); "
        "it knows cell",
    )
    bare = evaluate(EvaluateSpec(model=str(out), slides=dotted, bootstrap=0, **OPTIONS))
    assert bare.warnings == ()
    assert isinstance(report.pixels, PointMetrics)
    assert isinstance(bare.pixels, PointMetrics)
    assert report.pixels.to_dict() == bare.pixels.to_dict()
