"""What the panel says: whole sentences, true areas, nothing cut off without a trace."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QToolTip
from support.reference import reference_model

from napari_xt.choice import Choice
from napari_xt.models import ModelChoice, explain
from napari_xt.plain_words import plain
from napari_xt.results import Results
from napari_xt.words import about_slide, as_sentences, how_far, partial_words, summary
from xt_backend import open_slide
from xt_backend.engine.events import RunFinished
from xt_backend.keys import RegionStatus

from .conftest import PATIENCE_MS, PURPLE, speckled, write_slide
from .maps import score_map
from .seen import contrast, lightness_of
from .test_run import click, open_slide_layer, run_to_end


def tissue_mm2(panel: Any) -> float:
    found = re.search(r", ([\d.]+) mm² of tissue\. ", panel.plan.text())
    assert found, panel.plan.text()
    return float(found[1])


def test_the_plan_states_the_tissue_not_the_padding(qtbot: Any, panel: Any, tmp_path: Path) -> None:
    # All of it tissue, and neither side a multiple of the regions' 64 px.
    slide = write_slide(tmp_path / "s.tiff", speckled((1000, 1100), PURPLE))
    open_slide_layer(panel, slide)
    qtbot.waitUntil(lambda: "mm²" in panel.plan.text(), timeout=PATIENCE_MS)
    area_mm2 = 1000 * 1100 * 0.0005**2
    assert tissue_mm2(panel) == pytest.approx(area_mm2, rel=0.01)
    said: list[float] = []
    panel.session.planned.connect(lambda event: said.append(tissue_mm2(panel)))
    score_map = run_to_end(qtbot, panel).score_map
    assert said == [pytest.approx(area_mm2, rel=0.01)]
    shares = [f"{share:.1%}" for share in score_map.fractions().values()]
    assert [label.text() for label in panel.results._shares] == shares
    regions_mm2 = len(score_map) * 0.032**2
    assert regions_mm2 > 1.05 * area_mm2
    # Sentences begin as such.
    assert "of tissue. No glass is in view" in panel.plan.text()


def test_a_slide_is_as_large_as_what_was_scanned(tmp_path: Path) -> None:
    image = speckled((2048, 3072), PURPLE)
    with open_slide(write_slide(tmp_path / "whole.tiff", image)) as slide:
        assert about_slide(slide.info) == "3,072 × 2,048 px, 1.5 × 1.0 mm"
    part = write_slide(tmp_path / "part.tiff", image, without_tile=lambda y0, x0: x0 < 1024)
    with open_slide(part) as slide:
        assert about_slide(slide.info) == "2,048 × 2,048 px scanned, 1.0 × 1.0 mm"


def test_pixel_sizes_have_one_unit() -> None:
    missing = "the slide does not state its pixel size (um/px)"
    assert plain(missing) == "the slide does not state its pixel size"
    words = plain("a pixel size of 9 um/px is outside 0.05 to 5 um/px")
    assert words == "a pixel size of 9 µm per pixel is outside 0.05 to 5 µm per pixel"


def test_notes_become_sentences() -> None:
    assert as_sentences("no glass is in view", "is it here?") == "No glass is in view. Is it here?"
    assert as_sentences("70 regions") == "70 regions."
    assert as_sentences() == ""


def test_a_run_off_the_tissue_says_so_and_leaves_the_last_result(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    open_slide_layer(panel, square_slide)
    run_to_end(qtbot, panel)
    layers, shares = list(panel._viewer.layers), panel.results._shares[0].text()
    click(qtbot, panel, "Draw")
    shapes = panel.form.area.currentData()
    shapes.add_rectangles([[1536, 64], [1536, 512], [1984, 512], [1984, 64]])
    qtbot.waitUntil(lambda: "Nothing to score" in panel.plan.text(), timeout=PATIENCE_MS)
    assert not len(run_to_end(qtbot, panel).score_map)
    assert panel.status.text().startswith("Nothing was scored: there is no tissue in the area.")
    assert "holds no tissue" in panel.plan.text()
    assert panel.progress.value() == 0
    assert list(panel._viewer.layers) == [*layers, shapes]
    assert panel.results._shares[0].text() == shares


def test_a_new_legend_leaves_nothing_of_the_old_one_to_be_seen(qtbot: Any) -> None:
    """Also before Qt has deleted it: two numbers on each other cannot be read."""
    results = Results()
    qtbot.addWidget(results)
    results.begin(score_map())
    results.show_shares([0.5, 0.25, 0.25])
    old = [*results._shares, *results._bars]
    qtbot.waitUntil(lambda: all(one.isVisible() for one in old), timeout=PATIENCE_MS)
    results.begin(score_map())
    assert not any(one.isVisible() for one in old)


def test_ends_of_runs_in_words() -> None:
    done = np.full(69, RegionStatus.OK, np.uint8)
    with_context = score_map(status=done, logits=np.ones((69, 3), np.float32))
    alone = score_map(status=done)
    alone = score_map(status=done, logits=alone.region_only_logits)
    assert partial_words(alone, "cancelled") == "Partial: cancelled, and judged without context."
    assert "in detail" in partial_words(with_context, "the run failed")
    assert summary(RunFinished("r", alone, cancelled=True)).endswith("scored, but each alone.")
    assert summary(RunFinished("r", with_context, cancelled=True)).endswith("in detail.")
    assert summary(RunFinished("r", with_context)) == "Done: 69 regions."


def test_the_bar_ends_where_the_words_do() -> None:
    done = np.full(69, RegionStatus.OK, np.uint8)
    with_context = score_map(status=done, logits=np.ones((69, 3), np.float32))
    alone = score_map(status=done, logits=score_map().region_only_logits)
    assert how_far(RunFinished("r", with_context)) == (69, 69)
    # All scored, and cancelled before they were judged together.
    assert how_far(RunFinished("r", alone, cancelled=True)) == (69, 69)
    # 2 of them not done.
    assert how_far(RunFinished("r", score_map(), cancelled=True)) == (67, 69)
    # In the pixels: what was told last stays.
    assert how_far(RunFinished("r", with_context, cancelled=True)) == (None, None)


def test_a_long_choice_is_shortened_and_told_whole(qtbot: Any, panel: Any) -> None:
    area: Choice = panel.form.area
    area.resize(150, area.height())
    assert area.shown_text == area.currentText() == "All tissue"
    assert area.told == area.toolTip()
    click(qtbot, panel, "Draw")
    panel.form.area.currentData().name = "Lobules that the second reader doubts"
    assert area.currentText() == "Inside “Lobules that the second reader doubts”"
    assert area.shown_text.endswith("…")
    assert area.shown_text[:12] == area.currentText()[:12]
    QApplication.sendEvent(area, QHelpEvent(QEvent.Type.ToolTip, QPoint(), QPoint(5, 5)))
    assert QToolTip.text() == f"{area.currentText()}\n{area.toolTip()}"
    # What is painted is what was shortened.
    shortened = area.grab().toImage()
    panel.form.area.currentData().name = "Lobules that the second reader saw"
    assert area.grab().toImage() == shortened
    panel.form.area.currentData().name = "Ducts"
    assert area.grab().toImage() != shortened


def test_the_pixel_size_is_said_as_the_box_shows_it(panel: Any) -> None:
    fine = ModelChoice("m", "m", reference_model(model_mpp=0.75).card)
    words = explain(fine, 0.736648, allow_upsample=False)
    assert "the slide's 0.7366 is fine enough" in words
    panel.form.show_mpp(0.736648, stated=True)
    assert panel.form.mpp.text().startswith("0.7366 ")


def test_a_stated_pixel_size_can_be_read_in_both_themes(panel: Any) -> None:
    panel.form.show_mpp(0.25, stated=True)
    for theme in ("light", "dark"):
        panel._viewer.theme = theme
        panel.form.mpp.resize(200, 26)
        inner = lightness_of(panel.form.mpp)[4:-4, 30:-30]  # without frame and buttons
        assert contrast(inner) >= 4.5, theme
