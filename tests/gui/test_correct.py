"""The page `Correct`, used with mouse and keys: paint, train, and look at the new result."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import shapely
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_xt.correct import CorrectPage, words
from napari_xt.correct.pieces import read_areas, without_holes, write_areas
from napari_xt.save_page import SavePage
from napari_xt.slide_layers import pyramid_of
from xt_backend.model import read_card
from xt_backend.model.library import models_folder

from .conftest import PATIENCE_MS, Brake, two_squares, write_slide

LACKS = {"without_tile": lambda y0, x0: x0 < 512 or y0 < 256}


def click(qtbot: Any, within: Any, text: str) -> None:
    (found,) = [item for item in within.findChildren(QPushButton) if item.text() == text]
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def settle(qtbot: Any, panel: Any) -> None:
    qtbot.waitUntil(
        lambda: not panel.session.running and panel.overlay is not None and panel.overlay.complete,
        timeout=PATIENCE_MS,
    )


@contextlib.contextmanager
def errors_told() -> Iterator[list[str]]:
    texts: list[str] = []
    with patch("napari_xt.correct.page.show_error", texts.append):
        yield texts


@pytest.fixture
def corrected(qtbot: Any, panel: Any, tmp_path: Path) -> Any:
    """A slide with bounds that was run, and the page turned to."""
    panel._viewer.window.show()
    image = np.full((2048, 3072, 3), 255, np.uint8)
    two_squares(image)
    (slide,) = panel._viewer.open(
        str(write_slide(tmp_path / "s.tiff", image, **LACKS)), plugin="napari-xt"
    )
    (page,) = panel.findChildren(CorrectPage)
    assert not page.form.train.isEnabled()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
    settle(qtbot, panel)
    panel.pages.turn_to(page)
    page.slide_under_test = slide
    return page


def wait_for_counts(qtbot: Any, page: Any, text: str) -> None:
    qtbot.waitUntil(lambda: page.form.counts.text() == text, timeout=PATIENCE_MS)


def canvas_of(panel: Any) -> Any:
    return panel._viewer.window._qt_viewer.canvas


def click_on_slide(qtbot: Any, panel: Any, slide: Any, x_px: float, y_px: float) -> None:
    """A click at a place of the slide: brought to the middle of the canvas first."""
    viewer, canvas = panel._viewer, canvas_of(panel)
    viewer.scene.camera.center = tuple(slide.data_to_world((y_px - 0.5, x_px - 0.5)))
    viewer.scene.camera.zoom = 1.0
    qtbot.wait(50)
    native = canvas.native
    middle = QPoint(native.width() // 2, native.height() // 2)
    QTest.mouseMove(native, middle)
    qtbot.wait(20)
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, middle)
    qtbot.wait(50)


def test_paint_train_and_see_the_new_prediction(qtbot: Any, panel: Any, corrected: Any) -> None:
    page, viewer, slide = corrected, panel._viewer, corrected.slide_under_test
    before = panel.overlay.score_map
    said = before.classes[before.labels()[before.scored][0]]
    other = next(name for name in before.classes if name != said)
    click(qtbot, page, "Paint regions")
    layer = viewer.layers.selection.active
    assert layer is page.marks.painted
    assert layer.mode == "paint"
    number = before.classes.index(other) + 1
    click(qtbot, page, f"{number}  {other}")
    # Two regions of the upper square, and a third one that is rubbed out again.
    boxes = before.lattice.boxes(before.cells)
    inside = np.flatnonzero(
        (boxes[:, :2] >= (1024, 512)).all(1) & (boxes[:, 2:] <= (1536, 1024)).all(1)
    )
    chosen = inside[[3, 20, 40]]
    middles = (boxes[chosen, :2] + boxes[chosen, 2:]) / 2
    for x_px, y_px in middles:
        click_on_slide(qtbot, panel, slide, x_px, y_px)
    painted = np.argwhere(np.asarray(layer.data))[:, ::-1]
    assert {tuple(cell) for cell in painted} == {tuple(cell) for cell in before.cells[chosen]}
    wait_for_counts(qtbot, page, f"Corrected: 3 regions ({other} 3).")
    canvas_of(panel).native.setFocus()
    qtbot.keyClick(canvas_of(panel).native, Qt.Key.Key_0)
    qtbot.waitUntil(lambda: layer.selected_label == 0, timeout=PATIENCE_MS)
    click_on_slide(qtbot, panel, slide, *middles[2])
    wait_for_counts(qtbot, page, f"Corrected: 2 regions ({other} 2).")

    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, page, "Train")
        assert page.form.cancel.isEnabled()
        assert not page.form.train.isEnabled()
    result = waited.args[0]
    assert "is right on 2 of 2 corrected regions" in page.form.status.text()
    settle(qtbot, panel)
    # The new model is the user's, is chosen, and was run without encoding anything.
    assert result.model.parent == models_folder()
    assert panel.form.model.currentText() == result.model.stem
    after = panel.overlay.score_map
    assert after.model_sha256 == read_card(result.model).state_sha256 != before.model_sha256
    rows = {tuple(cell): row for row, cell in enumerate(after.cells)}
    for cell in before.cells[chosen[:2]]:
        assert after.classes[after.labels()[rows[tuple(cell)]]] == other
    assert "from what an earlier run has kept" in panel.status.text()
    # Trained again, it gets a name of its own.
    panel.pages.turn_to(page)
    assert page.marks.any
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, page, "Train")
    assert waited.args[0].model != result.model
    assert result.model.is_file()
    settle(qtbot, panel)


def test_corrections_go_to_qupath_and_back(
    qtbot: Any, panel: Any, corrected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, slide = corrected, corrected.slide_under_test
    left, top = page.marks.bounds_px
    assert (left, top) == (512, 256)
    # QuPath counts from the bounds; a ring with a hole.
    ring = [[512, 256], [1024, 256], [1024, 768], [512, 768], [512, 256]]
    hole = [[700, 400], [800, 400], [800, 500], [700, 500], [700, 400]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring, hole]},
        "properties": {"objectType": "annotation", "classification": {"name": "tumour"}},
    }
    bone = {**feature, "properties": {"classification": {"name": "bone"}}}
    made = tmp_path / "made.geojson"
    made.write_text(json.dumps({"type": "FeatureCollection", "features": [feature, bone]}))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(made), ""))
    click(qtbot, page, "Import …")
    assert "does not know it: bone" in page.form.status.text()
    ((name, first), *more) = page.marks.areas()
    assert name == "tumour"
    whole = shapely.union_all([first, *(area for _, area in more)])
    assert whole.area == pytest.approx(512 * 512 - 100 * 100)
    assert whole.bounds == pytest.approx((1024, 512, 1536, 1024))
    # Over the very pixels: the purple square.
    outlined = page.marks.outlined
    y, x = slide.world_to_data(outlined.data_to_world(np.concatenate(outlined.data).min(axis=0)))
    assert (x + 0.5, y + 0.5) == pytest.approx((1024, 512))
    # A region painted as well; both leave as QuPath's annotations, and come back the same.
    layer = page.marks.paint_layer()
    cell = panel.overlay.score_map.cells[-1]
    layer.data[cell[1], cell[0]] = 1
    layer.refresh()
    saved = tmp_path / "saved.geojson"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    page._show_counts()
    click(qtbot, page, "Export …")
    before = page.marks.areas()
    features = json.loads(saved.read_text())["features"]
    assert {one["properties"]["classification"]["name"] for one in features} == {"tumour", "stroma"}
    assert all(len(one["properties"]["classification"]["color"]) == 3 for one in features)
    corners = np.concatenate([one["geometry"]["coordinates"][0] for one in features[:-1]])
    assert tuple(corners.min(axis=0)) == pytest.approx((512, 256))
    counts = page.marks.counting()()
    assert counts["stroma"] == 1
    click(qtbot, page, "Clear")
    wait_for_counts(qtbot, page, "No region is corrected yet.")
    assert not page.form.save.isEnabled()
    page.import_file(saved)
    assert page.marks.counting()() == counts
    for name in ("tumour", "stroma"):
        old, new = (
            shapely.union_all([area for other, area in some if other == name])
            for some in (before, page.marks.areas())
        )
        assert old.symmetric_difference(new).area < 1e-3


def test_an_import_leaves_the_class_to_draw_with(corrected: Any, tmp_path: Path) -> None:
    page = corrected
    ring = [[512, 256], [1024, 256], [1024, 768]]
    page.form.outline.click()
    page.choose_class(0)
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {"classification": {"name": "tumour"}},
    }
    made = tmp_path / "made.geojson"
    made.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    page.import_file(made)
    page.marks.outlined.add_polygons(np.array([[10.0, 10], [10, 90], [90, 90]]))
    assert [name for name, _ in page.marks.areas()] == ["tumour", "stroma"]


def test_keys_beyond_the_classes_do_nothing_and_marks_follow_the_page(corrected: Any) -> None:
    page = corrected
    page.form.outline.click()
    page.choose_class(0)
    layer = page.marks.outlined
    layer.add_polygons(np.array([[10.0, 10], [10, 90], [90, 90]]))
    for index in (2, 8):
        page.choose_class(index)
    assert page.form.chosen_class == 0
    # Chosen while another slide was looked at: later outlines are of it, selected ones stay.
    layer.selected_data = {0}
    page.form.check_class(1)
    page._show()
    layer.selected_data = set()
    layer.add_polygons(np.array([[200.0, 10], [200, 90], [290, 90]]))
    assert layer.features["class"].tolist() == ["stroma", "tumour"]
    assert tuple(layer.edge_color[0]) != tuple(layer.edge_color[1])


def test_what_is_wrong_is_said_and_the_next_training_works(
    qtbot: Any, panel: Any, corrected: Any, tmp_path: Path
) -> None:
    page = corrected
    with errors_told() as told:
        click(qtbot, page, "Train")
    assert "No region is corrected" in told[0]
    broken = tmp_path / "broken.geojson"
    broken.write_text("{")
    with errors_told() as told:
        page.import_file(broken)
    assert "broken.geojson" in told[0]
    # Cancelled, it leaves nothing.
    layer = page.marks.paint_layer()
    column, row = panel.overlay.score_map.cells[5]
    layer.data[row, column] = 2
    page.form.name.setText("never")
    page.session.told.connect(lambda progress: page.form.cancel.click())
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, page, "Train")
    assert waited.args[0] is None
    assert page.form.status.text() == "Stopped: nothing was changed."
    assert not (models_folder() / "never.safetensors").exists()
    assert page.form.train.isEnabled()


def test_a_training_that_ends_beside_another_slide_runs_nothing(
    qtbot: Any, panel: Any, corrected: Any, tmp_path: Path
) -> None:
    page = corrected
    column, row = panel.overlay.score_map.cells[5]
    page.marks.paint_layer().data[row, column] = 2
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        page.form.train.click()
        image = np.full((1024, 1024, 3), 255, np.uint8)
        panel._viewer.open(str(write_slide(tmp_path / "t.tiff", image)), plugin="napari-xt")
        assert panel.chosen.slide is not page.slide_under_test
    assert not panel.session.running
    assert panel.overlay is None
    assert panel.form.model.currentText() == waited.args[0].model.stem
    assert page.form.status.text().endswith("press Run to see what it predicts.")


def test_a_run_and_a_training_wait_for_each_other(qtbot: Any, panel: Any, corrected: Any) -> None:
    page = corrected
    column, row = panel.overlay.score_map.cells[5]
    page.marks.paint_layer().data[row, column] = 2
    (saving,) = panel.findChildren(SavePage)
    assert page.form.train.isEnabled()
    assert saving.save.isEnabled()
    panel.run()
    assert panel.session.running
    assert not page.form.train.isEnabled()
    assert not saving.save.isEnabled()
    assert page.form.note.text() == words.RUN_GOING
    settle(qtbot, panel)
    assert page.form.train.isEnabled()
    assert saving.save.isEnabled()
    assert page.form.note.text() == words.HOW
    page.form.train.click()
    panel.run()
    assert not panel.session.running
    assert not panel.run_button.isEnabled()
    assert not panel.controls.waiting.isHidden()
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS):
        page.form.cancel.click()
    assert panel.run_button.isEnabled()
    assert panel.controls.waiting.isHidden()


def test_a_closed_panel_trains_nothing(qtbot: Any, panel: Any, corrected: Any) -> None:
    page = corrected
    column, row = panel.overlay.score_map.cells[5]
    page.marks.paint_layer().data[row, column] = 2
    page.form.train.click()
    assert page.session.running
    with (
        errors_told() as told,
        qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited,
    ):
        panel._viewer.window.remove_dock_widget(panel.parent())
    assert waited.args[0] is None
    assert not page.session.running
    assert not told


def test_a_training_that_loses_its_process_says_so_once_and_can_be_begun_again(
    qtbot: Any, panel: Any, corrected: Any, brake: Brake
) -> None:
    page, model = corrected, panel.form.model.currentText()
    column, row = panel.overlay.score_map.cells[5]
    page.marks.paint_layer().data[row, column] = 2
    page.form.name.setText("lost")
    brake.hold()
    with errors_told() as told, qtbot.waitSignal(page.session.failed, timeout=PATIENCE_MS):
        click(qtbot, page, "Train")
        brake.kill()
    (text,) = told
    assert "ended unexpectedly" in text
    assert page.form.status.text() == text
    assert not (models_folder() / "lost.safetensors").exists()
    assert panel.form.model.currentText() == model
    assert page.form.train.isEnabled()
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, page, "Train")
    assert waited.args[0].model.stem == "lost"
    settle(qtbot, panel)


def test_another_lattice_keeps_what_was_painted(
    qtbot: Any, panel: Any, corrected: Any, make_model: Callable[..., Path]
) -> None:
    page, before = corrected, panel.overlay.score_map
    layer = page.marks.paint_layer()
    for column, row in before.cells[:40]:
        layer.data[row, column] = 2
    ((_, painted),) = page.marks.areas()
    panel.pages.tabs.setCurrentIndex(0)
    panel.add_model_file(make_model("coarse", 1.0))
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
    settle(qtbot, panel)
    assert panel.overlay.score_map.lattice != before.lattice
    assert layer not in panel._viewer.layers
    named = page.marks.areas()
    assert {name for name, _ in named} == {"tumour"}
    kept = shapely.union_all([area for _, area in named])
    assert kept.symmetric_difference(painted).area < 1e-3
    assert page.marks.counting()()["tumour"] > 0


def test_corrections_leave_and_come_back_with_their_slide(
    qtbot: Any, panel: Any, corrected: Any
) -> None:
    page, viewer, slide = corrected, panel._viewer, corrected.slide_under_test
    marks, path = page.marks, pyramid_of(slide).path
    slide.translate = (300.0, -100.0)  # it will come back where the file has it
    painted, outlined = marks.paint_layer(), marks.outline_layer()
    column, row = panel.overlay.score_map.cells[5]
    painted.data[row, column] = 2
    outlined.add_polygons(np.array([[600.0, 1100], [600, 1200], [700, 1200]]))
    areas, n_before = page.marks.areas(), len(viewer.layers)
    assert panel.form.area.findData(outlined) < 0, "corrections are no area to score"
    viewer.layers.remove(slide)
    qtbot.waitUntil(lambda: len(viewer.layers) == 0, timeout=PATIENCE_MS)
    assert page.marks is None

    (slide,) = viewer.open(str(path), plugin="napari-xt")
    qtbot.waitUntil(
        lambda: outlined in viewer.layers and painted in viewer.layers, timeout=PATIENCE_MS
    )
    assert painted.mode == "pan_zoom"
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        panel.run()
    settle(qtbot, panel)
    assert page.marks is marks
    assert len(viewer.layers) == n_before
    for (name, area), (name_now, area_now) in zip(areas, page.marks.areas(), strict=True):
        assert name == name_now
        assert shapely.equals_exact(area.normalize(), area_now.normalize(), 1e-3)
    assert slide.world_to_data(painted.data_to_world((row, column))) == pytest.approx(
        _middle(panel.overlay.score_map, column, row), abs=0.01
    )
    # Taken away by hand, they stay away.
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not page._marks._turns.waiting, timeout=PATIENCE_MS)
    viewer.open(str(path), plugin="napari-xt")
    qtbot.waitUntil(lambda: not page._marks._turns.waiting, timeout=PATIENCE_MS)
    assert [layer.name for layer in viewer.layers] == [path.name]


def _middle(score_map: Any, column: int, row: int) -> tuple[float, float]:
    x0, y0, x1, y1 = score_map.lattice.boxes(np.array([[column, row]], np.int32))[0]
    return (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2


def test_areas_of_any_kind_are_exported_whole(tmp_path: Path) -> None:
    lobes = shapely.MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10)])
    mixed = shapely.GeometryCollection([lobes, shapely.LineString([(10, 5), (20, 5)])])
    write_areas(tmp_path / "a.geojson", [("tumour", mixed)], {}, (5.0, 0.0))
    ((name, area),) = read_areas(tmp_path / "a.geojson", (5.0, 0.0))
    assert name == "tumour"
    assert area.equals(lobes)
    assert sum(piece.area for piece in without_holes(mixed)) == lobes.area


def test_the_bundled_model_takes_over_what_is_drawn_in_qupath(
    qtbot: Any, panel: Any, tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expert calls one reactive lobule normal; the others stay what they were."""
    slide = checkout / "sample_slides" / "sample_5_0.tiff"
    panel._viewer.open(str(slide), plugin="napari-xt")
    panel.form.model.setCurrentIndex(panel.form.model.findData("context-demo"))
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
    settle(qtbot, panel)
    before = panel.overlay.score_map
    whole = json.loads(slide.with_suffix(".geojson").read_text())
    reactive, *_ = (
        one
        for one in whole["features"]
        if one["properties"]["classification"]["name"] == "reactive"
    )
    reactive["properties"]["classification"]["name"] = "normal"
    drawn = tmp_path / "drawn.geojson"
    drawn.write_text(json.dumps({**whole, "features": [reactive]}))
    (page,) = panel.findChildren(CorrectPage)
    panel.pages.turn_to(page)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(drawn), ""))
    click(qtbot, page, "Import …")
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, page, "Train")
    change = waited.args[0].change
    n = change.corrected["normal"]
    assert n > 8
    assert change.right_before["normal"] < n / 2 < 0.9 * n <= change.right_after["normal"]
    settle(qtbot, panel)
    after = panel.overlay.score_map
    np.testing.assert_array_equal(after.cells, before.cells)
    same = after.labels() == before.labels()
    # Most of what is not that lobule keeps its class.
    assert (~same).sum() < n + 0.1 * len(same)
    assert same[before.labels() == before.classes.index("other")].mean() > 0.9


def test_a_correction_that_turns_much_else_is_told() -> None:
    def said(others_changed: int) -> str:
        change = SimpleNamespace(
            corrected={"other": 9},
            right_before={"other": 0},
            right_after={"other": 9},
            others=1012,
            others_changed=others_changed,
        )
        card = SimpleNamespace(name="mine")
        return words.result_words(SimpleNamespace(card=card, change=change, notes=()))

    assert "193 were given another class. That is many" in said(193)
    assert said(24).endswith("24 were given another class.")
    assert "0 were given another class. Nothing else is like them" in said(0)
