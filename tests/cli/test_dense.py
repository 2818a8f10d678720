"""Dense and detection models as a user scores with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from support.dense import DOT_RADIUS_PX, draw_dots, write_dense_model
from support.slides import tissue_image, write_tiff_slide

from xt_backend.outputs import read_mask
from xt_backend.store import ScoreMap

Call = Callable[..., Any]

BOX = (320, 192, 704, 656)
"""Tissue of the slide; on mask pixels, across and beside the borders of regions."""

DOTS = [
    *[(128 * col + dx, 384 + dy) for col in (2, 3, 4) for dx, dy in ((0, 0), (2.5, 60), (-5, 128))],
    (200.3, 190.7),
    (640, 640),
    (996, 500),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    return {
        task: write_dense_model(folder / f"{task}.safetensors", task)
        for task in ("dense", "detection")
    }


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = tissue_image(1000, 900, (BOX,))
    return write_tiff_slide(tmp_path_factory.mktemp("slide") / "block.tiff", image)


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = draw_dots(tissue_image(1000, 900, ((0, 0, 1000, 900),)), DOTS, DOT_RADIUS_PX)
    return write_tiff_slide(tmp_path_factory.mktemp("slide") / "dots.tiff", image)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, bytes]:
    """What must be the same in two runs."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("run.json", "local.json", "slides.csv", "ledger")
    }


def test_the_mask_sits_where_the_tissue_is(
    call: Call, block: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = call("score", block, "--model", models["dense"], "--out", out, "--tissue", "all")
    assert done.returncode == 0, done.stderr
    mask = tifffile.imread(out / "block.mask.ome.tiff")
    assert mask.shape == (113, 125)  # 900 x 1000 px at 0.5 um/px, 4 um a pixel
    x0, y0, x1, y1 = (edge // 8 for edge in BOX)
    expected = np.ones_like(mask)
    expected[y0:y1, x0:x1] = 2
    wrong = mask != expected
    assert wrong.mean() < 0.01
    assert not wrong[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].any()
    assert openslide.OpenSlide(out / "block.mask.ome.tiff").dimensions == (125, 113)
    (row,) = table(out / "slides.csv")
    assert float(row["fraction_tissue"]) == pytest.approx((mask == 2).mean())
    assert "n_tissue" not in row
    # The files of region models are there too.
    found = ScoreMap.load(out / "block.run.h5")
    assert found.task == "dense"
    assert np.isfinite(found.logits).all()
    for name in ("regions.csv", "geojson", "overlay.png"):
        assert (out / f"block.{name}").is_file()


def test_only_selected_regions_have_a_mask(
    call: Call, block: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert call("score", block, "--model", models["dense"], "--out", out).returncode == 0
    found = ScoreMap.load(out / "block.run.h5")
    mask = read_mask(out / "block.mask.ome.tiff").levels[0]
    expected = np.zeros((8 * 16, 8 * 16), bool)
    for col, row in found.cells.tolist():
        expected[row * 16 : row * 16 + 16, col * 16 : col * 16 + 16] = True
    np.testing.assert_array_equal(mask > 0, expected[:113, :125])
    assert not expected.all()


def test_every_dot_is_found_exactly_once(
    call: Call, dots: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = call("score", dots, "--model", models["detection"], "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    points = table(out / "dots.points.csv")
    found = np.array([(float(p["x_px"]), float(p["y_px"])) for p in points])
    gaps = np.hypot(*(found[:, None] - np.array(DOTS)[None]).transpose(2, 0, 1))
    assert len(found) == len(DOTS)
    assert (gaps.min(axis=0) < 10).all()
    assert (gaps.min(axis=1) < 10).all()
    for point in points:
        assert float(point["x_um"]) == pytest.approx(float(point["x_px"]) / 2)
        assert point["class"] == "dot"
        assert 0.8 <= float(point["score"]) <= 1
    features = json.loads((out / "dots.points.geojson").read_text())["features"]
    assert [feature["geometry"]["coordinates"] for feature in features] == found.tolist()
    (row,) = table(out / "slides.csv")
    assert (row["n_dot"], row["n_other"], row["fraction_dot"]) == (str(len(DOTS)), "0", "")
    assert json.loads(done.stdout)["slides"][0]["n_dot"] == len(DOTS)


@pytest.mark.parametrize("task", ["dense", "detection"])
def test_the_same_bytes_whatever_the_batches_threads_and_cache(
    call: Call, block: Path, dots: Path, models: dict[str, Path], task: str, tmp_path: Path
) -> None:
    slide = block if task == "dense" else dots
    ways = {
        "plain": ("--cache", tmp_path / "cache"),
        "cached": ("--cache", tmp_path / "cache", "--batch-size", "1", "--workers", "0"),
        "fresh": ("--no-cache", "--batch-size", "32", "--workers", "4"),
    }
    found = []
    for name, options in ways.items():
        out = tmp_path / name
        done = call("score", slide, "--model", models[task], "--out", out, *options)
        assert done.returncode == 0, done.stderr
        found.append(files(out))
    assert found[0] == found[1] == found[2]


def test_context_changes_the_mask_and_off_leaves_it_out(
    call: Call, block: Path, tmp_path: Path
) -> None:
    """Tokens after context reach the decoder; `off` decodes from zeros, whatever is around."""
    import torch

    from xt_backend.model import load_model, save_model

    model = load_model(write_dense_model(tmp_path / "m.safetensors"))
    assert model.dense_head is not None
    torch.manual_seed(0)
    for part in model.dense_head.blocks:
        torch.nn.init.normal_(part.modulate.weight, std=2.0)
    save_model(model, tmp_path / "m.safetensors")
    masks = {}
    for context in ("on", "off"):
        out = tmp_path / context
        options = ("--context", context, "--cache", tmp_path / "cache", "--tissue", "all")
        done = call("score", block, "--model", tmp_path / "m.safetensors", "--out", out, *options)
        assert done.returncode == 0, done.stderr
        masks[context] = read_mask(out / "block.mask.ome.tiff").levels[0]
        if context == "off":
            found = ScoreMap.load(out / "block.run.h5")
            np.testing.assert_array_equal(found.logits, found.region_only_logits)
    x0, y0, x1, y1 = (edge // 8 for edge in BOX)
    assert (masks["off"][y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] == 2).all()
    assert (masks["on"] != masks["off"]).mean() > 0.05


def test_running_again_resumes_unless_a_file_is_gone(
    call: Call, dots: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ("score", dots, "--model", models["detection"], "--out", out)
    assert call(*arguments).returncode == 0
    before, stamp = files(out), (out / "dots.run.h5").stat().st_mtime_ns
    assert call(*arguments).returncode == 0
    assert (out / "dots.run.h5").stat().st_mtime_ns == stamp
    assert table(out / "slides.csv")[0]["n_dot"] == str(len(DOTS))
    (out / "dots.points.csv").unlink()
    assert call(*arguments).returncode == 0
    assert files(out) == before


def test_a_slide_without_tissue_has_empty_files(
    call: Call, models: dict[str, Path], tmp_path: Path
) -> None:
    slide = write_tiff_slide(tmp_path / "glass.tiff", tissue_image(512, 512, ()))
    for task, model in models.items():
        done = call("score", slide, "--model", model, "--out", tmp_path / task)
        assert done.returncode == 0, done.stderr
        assert table(tmp_path / task / "slides.csv")[0]["status"] == "empty"
    assert not read_mask(tmp_path / "dense" / "glass.mask.ome.tiff").levels[0].any()
    assert table(tmp_path / "detection" / "glass.points.csv") == []


def test_exports_and_lists_know_the_new_tasks(
    call: Call, dots: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert call("score", dots, "--model", models["detection"], "--out", out).returncode == 0
    before = files(out)
    for kind in ("geojson", "parquet"):
        done = call("export", out, "--to", kind)
        assert done.returncode == 0, done.stderr
    after = files(out)
    assert after.pop("dots.regions.parquet")
    assert after == before
    shown = call("models", "show", models["detection"], "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["task"] == "detection"


def test_scripts_get_points_as_a_frame(
    dots: Path, block: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    import xt_backend

    kept = xt_backend.score(dots, str(models["detection"]), cache=tmp_path / "cache")
    written = xt_backend.score(
        dots, str(models["detection"]), tmp_path / "run", cache=tmp_path / "cache"
    )
    assert len(kept.points) == len(written.points) == len(DOTS)
    assert list(kept.points) == list(written.points)
    np.testing.assert_allclose(kept.points["x_px"], written.points["x_px"], atol=1e-3)
    assert kept.slides["n_dot"].tolist() == [len(DOTS)]
    masked = xt_backend.score(block, str(models["dense"]), cache=tmp_path / "cache")
    assert masked.points.empty
    assert masked.slides["fraction_tissue"].item() > 0.3
