"""scripts/bench_window.py: every number that it promises is measured."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_xt.slide_layers import panel_of
from xt_backend import open_slide
from xt_backend.model.library import models_folder


@pytest.fixture
def bench(checkout: Path) -> Any:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location(
        "bench_window", checkout / "scripts" / "bench_window.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_number_is_measured(
    bench: Any,
    tmp_path: Path,
    make_napari_viewer: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "N_JUMPS", 2)
    monkeypatch.setattr(bench, "N_UPDATES", 2)
    size = (4500, 2500)
    path = bench.large_slide(tmp_path / "large.tiff", size)
    with open_slide(path) as slide:
        assert slide.info.level_dimensions[0] == size
        assert slide.read_level(0, 4244, 2244, 256, 256).std() > 10, "grain to the last corner"
    viewer = make_napari_viewer()
    rows = bench._measure(bench.Window(viewer), path, size, 0.3)
    assert [row["what"] for row in rows] == [
        "first paint",
        "jump to full resolution",
        "pan",
        "memory after 0.3 s of it",
        "overlay update",
    ]
    assert all(np.isfinite(row["value"]) and row["value"] > 0 for row in rows)
    assert bench.scene_of(viewer).camera.zoom > 0
    classes = next(layer for layer in viewer.layers if layer.name.startswith("xT classes"))
    assert classes.data.all(), "all of the prediction was shown in the end"


def test_a_training_is_timed_and_leaves_no_model(
    bench: Any,
    checkout: Path,
    make_napari_viewer: Callable[[], Any],
    kept_backend: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_xt.widget.make_backend", lambda: kept_backend)
    known = set(models_folder().glob("*"))
    viewer = make_napari_viewer()
    slide = checkout / "sample_slides" / "sample_5_0.tiff"
    taken, note = bench.train(viewer, slide, "context-demo")
    # To the end: the new model's prediction is what is shown.
    score_map = panel_of(viewer).chosen.score_map
    assert score_map.model_name == "context-demo-corrected"
    assert taken > 0
    n_painted = sys.modules[bench.train.__module__].N_PAINTED
    assert f"of {n_painted} painted regions are right" in note
    assert f"of {len(score_map) - n_painted:,} others changed" in note
    assert set(models_folder().glob("*")) == known
