"""The slide that lies in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from xt_backend.samples import CLASSES
from xt_backend.samples.annotations import annotation_features, truth_mask
from xt_backend.samples.layout import draw_layout

FOLDER = Path(__file__).resolve().parents[2] / "sample_slides"


def test_it_is_small_and_opens() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 5_000_000
    with openslide.OpenSlide(FOLDER / "sample_5_0.tiff") as slide:
        assert slide.level_dimensions == ((3072, 3072), (768, 768), (192, 192))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)


def test_its_truth_is_what_the_generator_gives() -> None:
    layout = draw_layout(3072, 3072, (5, 0))
    with Image.open(FOLDER / "sample_5_0.truth.png") as image:
        # Other versions of the geometry library may round a border differently.
        assert (np.asarray(image) == truth_mask(layout)).mean() > 0.99
    written = json.loads((FOLDER / "sample_5_0.geojson").read_text())["features"]
    assert [feature["properties"] for feature in written] == [
        feature["properties"] for feature in annotation_features(layout, "sample_5_0")
    ]


def test_its_readme_names_files_classes_and_licence() -> None:
    text = (FOLDER / "README.md").read_text()
    for file in FOLDER.iterdir():
        assert file.name == "README.md" or file.name in text
    for kind in CLASSES:
        assert f"| `{kind.name}` | {kind.color} | {kind.mask_value} |" in text
    assert "CC0" in text
    assert "napari-xt sample sample_slides --size 3072 --seed 5" in text
