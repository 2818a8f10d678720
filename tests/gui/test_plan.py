"""The line that says on which device a run would compute."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from qtpy.QtWidgets import QLabel

from napari_xt import plan as plan_module
from napari_xt import rates
from napari_xt.plan import Plan
from napari_xt.preview import Preview, preview
from xt_backend.backend import DeviceChoice
from xt_backend.engine import RunSpec
from xt_backend.model import ContextInfo, read_card

from .conftest import PATIENCE_MS, PURPLE, speckled, write_slide
from .test_run import open_slide_layer, run_to_end


def test_a_late_answer_is_about_the_device_that_was_asked_for(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "preview", lambda spec, card: Preview(3, 64.0, 1.0, ()))
    slow = threading.Event()

    def device(asked: str) -> DeviceChoice:
        assert asked != "cuda" or slow.wait(20)
        return DeviceChoice(f"the {asked}", "fp32", "asked for")

    label = QLabel()
    qtbot.addWidget(label)
    backend: Any = SimpleNamespace(device=device)
    plan = Plan(label, lambda: backend, label)

    def look(device: str) -> None:
        plan.look(SimpleNamespace(device=device, elsewhere=None), None)  # type: ignore[arg-type]

    look("auto")
    qtbot.waitUntil(lambda: "the auto" in label.text(), timeout=20_000)
    look("cuda")
    look("auto")
    slow.set()
    qtbot.waitUntil(lambda: "cuda" in plan._devices, timeout=20_000)
    assert "the cuda" in plan._devices["cuda"]
    assert "the auto" in label.text()


def test_the_plan_says_what_is_known_and_how_long_the_rest_takes(
    qtbot: Any,
    panel: Any,
    square_slide: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "_RATES", str(tmp_path / "rates.json"))  # no run was before
    open_slide_layer(panel, square_slide)
    said = panel.plan.text
    # Before the first run of all, a few regions are tried.
    qtbot.waitUntil(lambda: "tried on a few regions" in said(), timeout=PATIENCE_MS)
    assert re.search(r"This takes about \d+ (s|min), tried", said())
    assert "together" in said()
    assert "Pixel size as written in the file" in panel.form.slide_note.text()
    n = len(run_to_end(qtbot, panel).score_map)
    # A model that was made from this one has its encoder, and will be as quick.
    encoder = read_card(make_model()).region_encoder.sha256
    assert (rates.rate_of(encoder, "auto") or 0) > 0
    panel.form.upsample.setChecked(True)  # anything that makes it look again
    qtbot.waitUntil(lambda: "All are known" in said(), timeout=PATIENCE_MS)
    assert f"looks at {n:,} small pieces of them together" in said()
    other = write_slide(tmp_path / "other.tiff", speckled((1024, 1024), PURPLE, 5))
    open_slide_layer(panel, other)
    qtbot.waitUntil(lambda: "as quick as the last run" in said(), timeout=PATIENCE_MS)
    assert re.search(r"This takes about \d+ (s|min), as quick", said())


def test_of_a_model_without_context_no_plan_says_that_it_looks_at_regions_together(
    square_slide: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    card = read_card(make_model())
    spec = RunSpec(slide=square_slide, model="unread", cache=tmp_path)
    assert "small pieces of them together" in preview(spec, card).in_words()
    alone = card.model_copy(update={"context": ContextInfo(kind="none", dim=16, layers=1)})
    words = preview(spec, alone).in_words()
    assert "regions of 32 µm" in words
    assert "together" not in words
