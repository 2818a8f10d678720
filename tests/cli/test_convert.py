"""`napari-xt models convert`, and scoring with what it made."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reference import BACKBONE, BACKBONE_ARGS, REGION_PX, write_checkpoint

from xt_backend.model import load_model
from xt_backend.slides import open_slide
from xt_backend.store import ScoreMap

Call = Callable[..., Any]


def convert(call: Call, source: Path, out: Path, *more: str) -> Any:
    return call(
        "models", "convert", source, out, "--backbone", BACKBONE,
        "--backbone-args", json.dumps(BACKBONE_ARGS), "--region-px", str(REGION_PX), *more,
    )  # fmt: skip


@pytest.fixture
def converted(call: Call, tmp_path: Path) -> Path:
    """A converted model without a pixel size; crops of 128 px."""
    source, out = tmp_path / "released.ckpt", tmp_path / "converted.safetensors"
    write_checkpoint(source)
    done = convert(call, source, out, "--context", "hyper", "--classes", "a,b,c")
    assert done.returncode == 0, done.stderr
    assert "crops of 128 px (2 x 2 regions)" in done.stdout
    assert "--model-mpp" in done.stdout
    return out


def test_a_converted_model_scores_crops(
    call: Call, converted: Path, tissue_slide: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("score", tissue_slide, "--model", converted, "--out", out)
    done = call(*arguments, "--model-mpp", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    found = ScoreMap.load(out / "block.run.h5")
    assert found.lattice.region_px == 128
    assert found.classes == ("a", "b", "c")
    assert np.isfinite(found.logits).all()
    assert np.isnan(found.region_only_logits).all()
    with (out / "block.regions.csv").open(newline="") as file:
        regions = list(csv.DictReader(file))
    assert len(regions) == len(found) > 0
    assert {(row["width"], row["height"]) for row in regions} == {("128", "128")}
    with (out / "slides.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "done"
    assert sum(float(row[f"fraction_{name}"]) for name in "abc") == pytest.approx(1)
    # A row is the model's own answer to the pixels of its box.
    model = load_model(converted)
    index = len(found) // 2
    x, y = int(regions[index]["minx"]), int(regions[index]["miny"])
    with open_slide(tissue_slide) as slide:
        pixels = torch.from_numpy(slide.read(x, y, 128, 128, 0.5)).permute(2, 0, 1)[None]
    with torch.no_grad():
        image = (pixels / 255 - torch.tensor(model.card.mean).view(3, 1, 1)) / torch.tensor(
            model.card.std
        ).view(3, 1, 1)
        expected = model(image.float())[0].numpy()
    np.testing.assert_allclose(found.logits[index], expected, atol=5e-3)


def test_a_second_run_encodes_nothing_and_gives_the_same(
    call: Call, converted: Path, tissue_slide: Path, tmp_path: Path
) -> None:
    for out, cache in (("a", "miss"), ("b", "hit")):
        done = call(
            "score", tissue_slide, "--model", converted, "--out", tmp_path / out,
            "--model-mpp", "0.5", "--cache", tmp_path / "cache", "--json",
        )  # fmt: skip
        assert json.loads(done.stdout)["slides"][0]["cache"] == cache
    first, second = ((tmp_path / out / "block.regions.csv").read_bytes() for out in ("a", "b"))
    assert first == second


def test_it_is_refused_without_a_pixel_size_and_without_context(
    call: Call, converted: Path, tissue_slide: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("score", tissue_slide, "--model", converted, "--out", out)
    done = call(*arguments)
    assert done.returncode == 2
    assert "states no pixel size" in done.stderr
    assert "--model-mpp" in done.stderr
    done = call(*arguments, "--model-mpp", "0.5", "--context", "off")
    assert done.returncode == 2
    assert "no head that sees each region alone" in done.stderr
    assert not out.exists()


def test_the_pixel_size_can_be_said_at_conversion(
    call: Call, tissue_slide: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "released.safetensors", tmp_path / "converted.safetensors"
    write_checkpoint(source, "mamba")
    done = convert(
        call, source, out, "--context", "mamba", "--model-mpp", "1.0", "--crop-px", "64", "--json"
    )
    card = json.loads(done.stdout)["card"]
    assert (card["model_mpp"], card["crop_px"]) == (1.0, 64)
    done = call("score", tissue_slide, "--model", out, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slides"][0]["n_regions"] == 16
    shown = call("models", "show", out)
    assert "reference" in shown.stdout
    assert "mamba" in shown.stdout


def test_a_trained_model_keeps_its_own_pixel_size(
    call: Call, tiny_model: Path, tissue_slide: Path, tmp_path: Path
) -> None:
    arguments = ("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run")
    done = call(*arguments, "--model-mpp", "2.0")
    assert done.returncode == 2
    assert "trained at 1 um/px, not at 2" in done.stderr
    assert call(*arguments, "--model-mpp", "1.0").returncode == 0


def test_bad_arguments_and_pickles_are_refused(call: Call, tmp_path: Path) -> None:
    source, out = tmp_path / "released.ckpt", tmp_path / "converted.safetensors"
    write_checkpoint(source, args=Path("/somewhere"))
    done = convert(call, source, out, "--context", "hyper")
    assert done.returncode == 2
    assert "cannot be read as plain weights" in done.stderr
    assert "Traceback" not in done.stderr
    done = call(
        "models", "convert", source, out, "--backbone", BACKBONE, "--region-px", "64",
        "--context", "hyper", "--backbone-args", "[1, 2]",
    )  # fmt: skip
    assert done.returncode == 2
    assert "no JSON object" in done.stderr
    write_checkpoint(source)
    checkpoint = torch.load(source, weights_only=True)
    checkpoint["state_dict"]["module.decoder.cls.1.weight"][0, 0] = torch.nan
    torch.save(checkpoint, source)
    done = convert(call, source, out, "--context", "hyper")
    assert done.returncode == 2
    assert "decoder.cls.1.weight of released.ckpt holds numbers that are not finite" in done.stderr
    assert not out.exists()
