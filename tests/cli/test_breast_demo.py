"""The bundled breast model: its card, and what it makes of real tissue."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xt_backend.model import ModelCard, find_model, load_model, read_card
from xt_backend.samples import import_pictures

Call = Callable[..., Any]

CLASSES = {0: "other", 255: "tumour"}
ROIS = ("1008", "1015")
RECIPE = "docs/breast-demo"

# Of her2st_C2, level-0 px: looked up by eye.
FIBROUS_PX = (2800, 5500, 4300, 6250)
EPITHELIUM_PX = (6000, 4900, 7200, 6100)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return read_card(find_model("breast-demo"))


@pytest.fixture(scope="module")
def slides(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the model was trained on, as the page of the model says."""
    folder = tmp_path_factory.mktemp("breast")
    for name, mpp in (("bcss-roi", 0.25), ("camelyon-512", 1.0)):
        data = shared_data / name
        import_pictures(data / "images", folder, mpp, masks=data / "masks", classes=CLASSES)
    return folder


def test_the_card_says_what_the_model_is_and_how_little_it_knows(card: ModelCard) -> None:
    assert set(card.class_names) == {"other", "tumour"}
    assert card.task == "region"
    assert card.mpp() >= 0.75
    assert card.region_um <= 128
    assert "CC0" in card.licence
    assert "Apache-2.0" in card.licence
    assert "Amgad" in card.citation
    assert "Litjens" in card.citation
    assert "estimate" in card.training_data
    assert "20 patches" in card.training_data
    assert "research use only" in card.intended_use.lower()
    assert card.feature_stats is not None
    assert card.feature_stats.limit is not None
    assert len(card.colour_range) == 3
    assert not card.thresholds  # one fitted on models of half the data did not suit this one
    folds = card.metrics["cross_validation_by_patient"]
    assert isinstance(folds, list)
    # One row an area that was held out; the lymph nodes only help to learn.
    assert [row["n_slides"] for row in folds] == [1, 1]
    assert all(row["auroc"]["tumour"] >= 0.88 for row in folds)
    assert all(row["balanced_accuracy"] >= 0.75 for row in folds)


def test_the_model_is_small_and_loads(card: ModelCard) -> None:
    path = find_model("breast-demo")
    assert path.stat().st_size < 20e6
    model = load_model(path)
    assert model.has_region_only
    assert card.region_encoder.embedded


def test_it_is_listed(call: Call) -> None:
    rows = json.loads(call("models", "list", "--json").stdout)["models"]
    row = next(row for row in rows if row["name"] == "breast-demo")
    assert (row["source"], row["model_mpp"]) == ("bundled", 0.75)
    shown = call("models", "show", "breast-demo").stdout
    assert "Bioinformatics" in shown


def test_it_knows_the_areas_it_was_trained_on(call: Call, slides: Path, tmp_path: Path) -> None:
    """No proof of quality: only that the file, the reading and the threshold fit together."""
    known = tmp_path / "known"
    known.mkdir()
    for path in (*slides.glob("1008.*"), *slides.glob("1015.*")):
        shutil.copy(path, known)
    done = call(
        "evaluate", "--model", "breast-demo", "--slides", known, "--bootstrap", "0", "--json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["context"]["auroc"]["tumour"]["value"] > 0.93
    assert report["context"]["balanced_accuracy"]["value"] > 0.8


def test_the_same_area_from_another_file_is_familiar_and_read_alike(
    call: Call, shared_data: Path, slides: Path, tmp_path: Path
) -> None:
    """One with far more JPEG artefacts."""
    other = shared_data / "bcss-roi" / "slides" / "bcss_1008.svs"
    done = call("score", other, slides / "1008.tiff", "--model", "breast-demo", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "distribution" not in done.stdout
    table = pd.read_csv(tmp_path / "slides.csv")
    assert table["reason"].isna().all()
    first, second = (
        pd.read_csv(tmp_path / f"{name}.regions.csv")["prob_tumour"]
        for name in ("bcss_1008", "1008")
    )
    assert np.corrcoef(first, second)[0, 1] > 0.9


def test_a_section_of_another_stain_gets_a_plausible_map_and_a_warning(
    call: Call, shared_data: Path, tmp_path: Path
) -> None:
    slide = shared_data / "her2st-slides" / "her2st_C2.svs"
    done = call("score", slide, "--model", "breast-demo", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "slides.csv")
    assert "out of distribution" in table["reason"][0]
    assert "bluer" in table["reason"][0]
    regions = pd.read_csv(tmp_path / "her2st_C2.regions.csv")
    x = regions["minx"] + regions["width"] / 2
    y = regions["miny"] + regions["height"] / 2

    def mean(x0: int, y0: int, x1: int, y1: int) -> float:
        inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
        assert inside.sum() >= 5
        return float(regions["prob_tumour"][inside].mean())

    fibrous, epithelium = mean(*FIBROUS_PX), mean(*EPITHELIUM_PX)
    assert epithelium > fibrous + 0.1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_recipe_holds_on_areas_that_it_has_not_seen(
    call: Call, checkout: Path, slides: Path, tmp_path: Path
) -> None:
    """Of each area by a model that was trained without it."""
    model = tmp_path / "model.safetensors"
    done = call(
        "train", "--slides", slides, "--patients", checkout / f"{RECIPE}.csv",
        "--config", checkout / f"{RECIPE}.yaml", "--out", model,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = read_card(model).metrics["cross_validation_by_patient"]
    assert isinstance(rows, list)
    assert len(rows) == len(ROIS)
    for row in rows:
        assert isinstance(row, dict)
        assert row["auroc"]["tumour"] >= 0.85
