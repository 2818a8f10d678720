"""`napari-xt evaluate --out`, and what counts as wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.reference import reference_model
from support.slides import write_tissue_slide

from xt_backend.model import save_model

Call = Callable[..., Any]

FILES = {"metrics.json", "predictions.csv", "confusion.png", "reliability.png"}


def annotate(path: Path, boxes: dict[str, tuple[int, int, int, int]]) -> None:
    features = []
    for name, (x0, y0, x1, y1) in boxes.items():
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        features.append({
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        })  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """One slide whose left half is normal, whose right half is tumour."""
    folder = tmp_path / "slides"
    folder.mkdir()
    write_tissue_slide(folder / "a.tiff")
    annotate(folder / "a.geojson", {"normal": (0, 0, 512, 1024), "tumour": (512, 0, 1024, 1024)})
    return folder


def spoil(path: Path) -> None:
    """Overwrite half of the tiles, on every level, in place."""
    with tifffile.TiffFile(path) as tiff:
        places = [
            (start, length)
            for page in tiff.pages
            for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    with path.open("r+b") as file:
        for start, length in places[1::2]:
            file.seek(start)
            file.write(b"\xff" * length)


def evaluate(call: Call, model: Path, slides: Path, *more: Any) -> Any:
    return call(
        "evaluate", "--model", model, "--slides", slides, "--tissue", "all", "--no-cache",
        "--bootstrap", "20", *more,
    )  # fmt: skip


def test_out_holds_numbers_predictions_and_pictures(
    call: Call, tiny_model: Path, slides: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "evaluation"
    options = ("--out", out, "--ordered", "--compare-context")
    done = evaluate(call, tiny_model, slides, *options)
    assert done.returncode == 0, done.stderr
    assert "quadratic kappa" in done.stdout
    assert "64 regions of 1 slide; intervals by drawing regions anew" in done.stdout
    assert {path.name for path in out.iterdir()} == FILES
    numbers = json.loads((out / "metrics.json").read_text())
    assert numbers["context"]["n_regions"] == 64
    assert numbers["context"]["quadratic_kappa"]["value"] is not None
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 64
    assert {(row["width"], row["height"], row["slide"]) for row in rows} == {
        ("128", "128", "a.tiff")
    }
    for row in rows:
        assert row["true"] == ("normal" if int(row["minx"]) < 512 else "tumour")
        parts = [float(row[f"{head}prob_{name}"]) for head in ("", "region_only_")
                 for name in ("normal", "tumour")]  # fmt: skip
        assert sum(parts) == pytest.approx(2, abs=1e-5)
    # The table says the same as the numbers.
    confusion = np.array(numbers["context"]["confusion"])
    names = ["normal", "tumour"]
    counted = np.zeros((2, 3), int)
    for row in rows:
        counted[names.index(row["true"]), names.index(row["predicted"])] += 1
    np.testing.assert_array_equal(counted, confusion)
    for name in ("confusion.png", "reliability.png"):
        with Image.open(out / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert evaluate(call, tiny_model, slides, *options).returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not any(str(tmp_path).encode() in data for data in before.values())


def test_unreadable_regions_count_as_wrong_however_many(
    call: Call, tiny_model: Path, slides: Path, tmp_path: Path
) -> None:
    whole = json.loads(evaluate(call, tiny_model, slides, "--json").stdout)["context"]
    spoil(slides / "a.tiff")
    out = tmp_path / "out"
    done = evaluate(call, tiny_model, slides, "--out", out, "--json")
    assert done.returncode == 3, done.stderr
    broken = json.loads(done.stdout)["context"]
    assert broken["n_regions"] == whole["n_regions"] == 64
    assert broken["n_failed"] > 10
    assert np.array(broken["confusion"])[:, 2].sum() == broken["n_failed"]
    assert broken["accuracy"]["value"] < whole["accuracy"]["value"]
    with (out / "predictions.csv").open(newline="") as file:
        empty = [row for row in csv.DictReader(file) if not row["predicted"]]
    assert len(empty) == broken["n_failed"]
    assert {row["prob_tumour"] for row in empty} == {""}


def test_a_slide_that_cannot_be_judged_is_named_and_shows_in_the_exit_code(
    call: Call, tiny_model: Path, slides: Path
) -> None:
    write_tissue_slide(slides / "bare.tiff", mpp=None)
    annotate(slides / "bare.geojson", {"normal": (0, 0, 1024, 1024)})
    done = evaluate(call, tiny_model, slides)
    assert done.returncode == 3
    assert "bare.tiff: FAILED" in done.stdout
    assert "64 regions of 1 slide" in done.stdout


def test_patients_are_what_the_bootstrap_draws(
    call: Call, tiny_model: Path, slides: Path, tmp_path: Path
) -> None:
    for index in range(5):
        for suffix in (".tiff", ".geojson"):
            target = slides / f"{index}{suffix}"
            target.write_bytes((slides / f"a{suffix}").read_bytes())
    table = tmp_path / "patients.csv"
    table.write_text("slide,patient\n0,p\n1.tiff,p\n2,q\n3,r\n4,s\n", encoding="utf-8")
    done = evaluate(call, tiny_model, slides, "--patients", table, "--json")
    assert json.loads(done.stdout)["context"]["resampled"] == "patients"
    done = evaluate(call, tiny_model, slides, "--patients", tmp_path / "none.csv")
    assert done.returncode == 2


def test_converted_models_are_evaluated_on_crops(call: Call, slides: Path, tmp_path: Path) -> None:
    model = tmp_path / "converted.safetensors"
    built = reference_model()
    names = ("normal", "tumour", "other")
    classes = tuple(
        one.model_copy(update={"name": name})
        for one, name in zip(built.card.classes, names, strict=True)
    )
    built.card = built.card.model_copy(update={"classes": classes})
    save_model(built, model)
    done = evaluate(call, model, slides)
    assert done.returncode == 2
    assert "states no pixel size" in done.stderr
    done = evaluate(call, model, slides, "--model-mpp", "1.0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["context"]["n_regions"] == 16
    done = evaluate(call, model, slides, "--model-mpp", "1.0", "--compare-context")
    assert done.returncode == 2
    assert "no head that sees each region alone" in done.stderr


def test_a_folder_that_cannot_be_made_is_named_before_any_work(
    call: Call, tiny_model: Path, slides: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    done = evaluate(call, tiny_model, slides, "--out", tmp_path / "file" / "out")
    assert done.returncode == 5
    assert f"Cannot write {tmp_path / 'file' / 'out'}" in done.stderr


def test_warnings_come_before_the_numbers_and_stand_in_json(
    call: Call, tiny_model: Path, slides: Path
) -> None:
    document = json.loads((slides / "a.geojson").read_text())
    other = json.loads(json.dumps(document["features"][0]))
    other["properties"]["classification"]["name"] = "Fold"
    document["features"].append(other)
    (slides / "a.geojson").write_text(json.dumps(document))
    done = evaluate(call, tiny_model, slides)
    assert done.returncode == 2
    assert "--leave-out Fold" in done.stderr
    done = evaluate(call, tiny_model, slides, "--leave-out", "Fold")
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if "Fold" in one]
    assert line.startswith("Warning: annotations of classes that ")
    assert "Fold" not in done.stdout
    done = evaluate(call, tiny_model, slides, "--leave-out", "Fold", "--json")
    assert f"Warning: {json.loads(done.stdout)['notes'][0]}" == line
