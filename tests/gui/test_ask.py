"""The page Ask, used as a person does: real clicks on the slide, a real model in the backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QPushButton

from napari_xt.ask.form import Telling, View
from napari_xt.ask.gallery import PICTURE_PX, thumbnail
from napari_xt.ask.layers import influence_scale
from napari_xt.ask.words import influence_words, length, what_if_words
from napari_xt.slide_layers import pyramid_of
from xt_backend.engine.questions import InfluenceMap, entropy, most_telling
from xt_backend.keys import RegionStatus

from .conftest import PATIENCE_MS, Brake
from .maps import score_map as made_up
from .test_run import click, layer, open_slide_layer, run_to_end


@pytest.fixture
def asked(qtbot: Any, panel: Any, square_slide: Path) -> Any:
    """The panel with a result on the square slide and the page Ask open."""
    open_slide_layer(panel, square_slide)
    run_to_end(qtbot, panel)
    # Only a window that is shown knows what lies under the mouse.
    panel._viewer.window._qt_window.show()
    panel._viewer.window.resize(1200, 800)
    qtbot.wait(200)
    open_ask(panel)
    return panel


def open_ask(panel: Any) -> Any:
    panel.pages.turn_to(panel.pages.pages["Ask"])
    return panel.pages.current


def place_of(panel: Any, row: int) -> tuple[float, float]:
    """Middle of a region in world coordinates."""
    column, line = panel.chosen.score_map.cells[row].tolist()
    y, x = panel.overlay.classes.data_to_world((line, column))
    return float(y), float(x)


def click_region(qtbot: Any, panel: Any, row: int) -> None:
    """Bring a region into the middle of the canvas and click there."""
    viewer = panel._viewer
    viewer.scene.camera.center = place_of(panel, row)
    viewer.scene.camera.zoom = 2
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.wait(50)
    qtbot.mouseMove(canvas, canvas.rect().center())
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())


def answered(qtbot: Any, page: Any, ask: Callable[[], None]) -> Any:
    with qtbot.waitSignal(page.asking.answered, timeout=PATIENCE_MS) as waited:
        ask()
    return waited.args[1]


def test_a_click_shows_a_regions_numbers_and_what_it_looked_at(qtbot: Any, asked: Any) -> None:
    page, score_map = asked.pages.current, asked.chosen.score_map
    assert not page.form.look.isEnabled()
    row = 60
    click_region(qtbot, asked, row)
    assert page.known.row == row
    joint, alone = score_map.probabilities[row], score_map.region_only_probabilities[row]
    label = int(joint.argmax())
    assert page.form.numbers.title.text() == f"{score_map.classes[label]} {joint[label]:.0%}"
    for index, (name, with_context, without, _) in enumerate(page.form.numbers.cells):
        assert name == score_map.classes[index]
        assert (with_context, without) == (f"{joint[index]:.0%}", f"{alone[index]:.0%}")
    box = score_map.lattice.boxes(score_map.cells[row : row + 1])[0]
    x_um, y_um = (box[0] + box[2]) / 4, (box[1] + box[3]) / 4  # at 0.5 um per px
    assert f"x {x_um:,.0f} µm, y {y_um:,.0f} µm" in page.form.numbers.place.text()
    assert f"Undecided: {entropy(score_map)[row]:.0%}" in page.form.numbers.doubt.text()

    answer = answered(qtbot, page, lambda: click(qtbot, asked, "What did it look at?"))
    assert (answer.row, answer.class_index) == (row, label)
    shown = layer(asked._viewer, "xT influence")
    np.testing.assert_array_equal(
        shown.data, score_map.grid(influence_scale(answer.values, row), np.nan)
    )
    column, line = score_map.cells[row]
    assert np.isnan(shown.data[line, column])
    assert np.nanmax(shown.data) == 1
    assert shown.visible
    assert not asked.overlay.classes.visible
    assert length(answer.half_um) in page.form.answer.text()
    mark = layer(asked._viewer, "xT asked")
    np.testing.assert_allclose(mark.data_to_world(mark.data[0]), place_of(asked, row))
    assert mark.size[0] == 32  # um: 64 px at 0.5
    np.testing.assert_allclose(
        shown.data_to_world((line, column)), mark.data_to_world(mark.data[0])
    )
    page.form.shows.setCurrentIndex(0)
    assert asked.overlay.classes.visible
    assert not shown.visible


def test_a_click_beside_the_tissue_chooses_nothing(qtbot: Any, asked: Any) -> None:
    page, viewer = asked.pages.current, asked._viewer
    click_region(qtbot, asked, 5)
    assert page.known.row == 5
    viewer.scene.camera.center = (900.0, 100.0)
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.wait(50)
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=canvas.rect().center())
    assert page.known.row is None
    assert not page.form.look.isEnabled()
    assert len(layer(viewer, "xT asked").data) == 0
    # Nor does a click on the slide while another page is open.
    asked.pages.tabs.setCurrentIndex(0)
    click_region(qtbot, asked, 7)
    assert page.known.row is None


def test_painted_regions_leave_the_prediction_and_come_back(qtbot: Any, asked: Any) -> None:
    page, viewer, own = asked.pages.current, asked._viewer, asked.chosen.score_map
    before = asked.overlay.classes.data.copy()
    shares = [label.text() for label in asked.results._shares]
    click(qtbot, asked, "What if?")
    assert page.form.answer.text() == "Paint some regions first."
    click(qtbot, asked, "Paint out")
    painted = [20, 21, 40]
    for row in painted:
        click_region(qtbot, asked, row)
    assert page.known.layers.painted.tolist() == painted
    assert page.known.row is None, "a stroke of the brush is no click"

    answer = answered(qtbot, page, lambda: click(qtbot, asked, "What if?"))
    shown = asked.overlay.score_map
    assert shown is not own
    assert asked.chosen.score_map is own
    assert (np.flatnonzero(shown.status == RegionStatus.LEFT_OUT) == painted).all()
    np.testing.assert_array_equal(shown.logits, answer.score_map.logits)
    columns, lines = own.cells[painted].T
    assert (asked.overlay.classes.data[lines, columns] == 0).all()
    status = layer(viewer, "xT status")
    assert status.visible
    assert (status.data[lines, columns] > 0).all()
    assert page.form.answer.text() == what_if_words(own, answer.score_map)
    assert "Without 3 regions" in page.form.answer.text()
    assert [label.text() for label in asked.results._shares] == [
        f"{share:.1%}" for share in shown.fractions().values()
    ]

    click(qtbot, asked, "Back")
    np.testing.assert_array_equal(asked.overlay.classes.data, before)
    assert [label.text() for label in asked.results._shares] == shares
    assert not page.form.back.isEnabled()
    assert not status.visible

    page.form.keep.setCurrentIndex(1)
    answered(qtbot, page, lambda: click(qtbot, asked, "What if?"))
    kept = asked.overlay.score_map.status != RegionStatus.LEFT_OUT
    assert np.flatnonzero(kept).tolist() == painted


def test_views_lie_over_the_slide_one_at_a_time(qtbot: Any, asked: Any) -> None:
    page, viewer, score_map = asked.pages.current, asked._viewer, asked.chosen.score_map
    form = page.form
    expected = {
        View.CHANGE: score_map.probabilities[:, 0] - score_map.region_only_probabilities[:, 0],
        View.DOUBT: entropy(score_map),
    }
    for view, values in expected.items():
        form.shows.setCurrentIndex(list(View).index(view))
        (shown,) = [
            item
            for item in viewer.layers
            if item.visible and item.name.startswith(("xT change", "xT undecided"))
        ]
        np.testing.assert_array_equal(shown.data, score_map.grid(values, np.nan))
        assert not asked.overlay.classes.visible
    form.shows.setCurrentIndex(list(View).index(View.CHANGE))
    form.class_.setCurrentIndex(1)
    assert layer(viewer, "xT change of tumour").visible
    assert not layer(viewer, "xT change of stroma").visible

    at = list(View).index(View.SPREAD)
    answer = answered(qtbot, page, lambda: form.shows.setCurrentIndex(at))
    shown = layer(viewer, "xT unsteady")
    np.testing.assert_array_equal(shown.data, score_map.grid(answer.deviation, np.nan))
    page.choose(12)
    same = round(float(answer.agreement[12]) * 8)
    assert f"Same class in {same} of 8" in form.numbers.doubt.text()


def test_the_most_telling_regions_are_pictures_to_go_to(qtbot: Any, asked: Any) -> None:
    page, viewer, score_map = asked.pages.current, asked._viewer, asked.chosen.score_map
    form = page.form
    names = [form.pick.itemText(index) for index in range(form.pick.count())]
    assert names == [
        "Most certain: stroma",
        "Most certain: tumour",
        "Most changed by context",
        "Most undecided",
    ]
    form.pick.setCurrentIndex(3)
    assert form.telling[0] is Telling.UNDECIDED
    rows = form.gallery.rows()
    assert rows == most_telling(score_map, entropy(score_map), 8)
    row = rows[-1]
    pixels = thumbnail(score_map, pyramid_of(asked.chosen.slide), row)
    assert min(pixels.shape[:2]) >= PICTURE_PX
    assert pixels.std() > 5, "glass, or a place that has not been read"

    def drawn() -> bool:
        image = form.gallery.item(len(rows) - 1).icon().pixmap(PICTURE_PX, PICTURE_PX).toImage()
        return image.pixelColor(PICTURE_PX // 2, PICTURE_PX // 2) != QColor(160, 160, 160)

    qtbot.waitUntil(drawn, timeout=PATIENCE_MS)
    item = form.gallery.item(len(rows) - 1)
    rectangle = form.gallery.visualItemRect(item)
    qtbot.mouseClick(form.gallery.viewport(), Qt.MouseButton.LeftButton, pos=rectangle.center())
    assert page.known.row == row
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], place_of(asked, row))
    assert viewer.scene.camera.zoom * 32 == pytest.approx(150)


def test_threshold_and_colours_are_for_this_view_only(
    qtbot: Any, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, own = asked.pages.current, asked.chosen.score_map
    before = asked.overlay.classes.data.copy()
    rare = int(np.bincount(own.labels()[own.labels() >= 0], minlength=2).argmin())
    page.form.class_.setCurrentIndex(rare)
    page.form.threshold.setValue(1)
    columns, lines = own.cells[own.scored].T
    assert (asked.overlay.classes.data[lines, columns] == rare + 1).all()
    assert asked.chosen.score_map is own
    page.form.threshold.setValue(0)
    np.testing.assert_array_equal(asked.overlay.classes.data, before)
    monkeypatch.setattr("napari_xt.ask.looks.QColorDialog.getColor", lambda *_: QColor("#112233"))
    click(qtbot, asked, "Colour")
    assert asked.overlay.score_map.colors[rare] == "#112233"
    drawn = asked.overlay.classes.colormap.map(np.array([rare + 1]))[0]
    np.testing.assert_allclose(drawn[:3], np.array([0x11, 0x22, 0x33]) / 255, atol=1e-3)
    assert own.colors[rare] != "#112233"


def test_nothing_is_asked_without_a_result_and_nothing_stays_after_the_slide(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    page = open_ask(panel)
    assert not page.form.isEnabled()
    assert page.form.numbers.place.text().startswith("Run a model")
    slide = open_slide_layer(panel, square_slide)
    panel.pages.tabs.setCurrentIndex(0)
    run_to_end(qtbot, panel)
    open_ask(panel)
    page.choose(3)
    page.form.shows.setCurrentIndex(list(View).index(View.DOUBT))
    click(qtbot, panel, "Paint out")
    assert page.form.isEnabled()
    # Another run starts from a clean slide.
    panel.pages.tabs.setCurrentIndex(0)
    run_to_end(qtbot, panel)
    assert not [item for item in panel._viewer.layers if item.name.startswith("xT undecided")]
    open_ask(panel)
    page.choose(3)
    panel._viewer.layers.remove(slide)
    qtbot.waitUntil(lambda: not len(panel._viewer.layers), timeout=PATIENCE_MS)
    assert not page.form.isEnabled()
    assert not page._known, "what was found on a closed slide is let go of"


def test_questions_that_cannot_be_answered_say_why(
    qtbot: Any, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = asked.pages.current
    told: list[str] = []
    monkeypatch.setattr("napari_xt.ask.page.show_error", told.append)
    page.choose(3)
    spec = asked.chosen.result.spec
    other = spec.model_copy(update={"cache": Path("/nowhere")})
    monkeypatch.setattr(asked.chosen.result, "spec", other)
    with qtbot.waitSignal(page.asking.failed, timeout=PATIENCE_MS):
        click(qtbot, asked, "What did it look at?")
    assert len(told) == 1
    assert "Run the model on the slide again" in told[0]
    assert page.form.answer.text() == told[0]
    assert page.form.look.isEnabled()
    monkeypatch.setattr(asked.chosen.result, "spec", None)
    monkeypatch.setattr(asked.setup.models, "_known", [])
    click(qtbot, asked, "What did it look at?")
    assert "is not at hand" in told[1]
    assert page.form.answer.text() == told[1]


def test_a_question_that_loses_its_process_is_told_once_and_can_be_asked_again(
    qtbot: Any, asked: Any, brake: Brake, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = asked.pages.current
    told: list[str] = []
    monkeypatch.setattr("napari_xt.ask.page.show_error", told.append)
    page.choose(3)
    brake.hold()
    with qtbot.waitSignal(page.asking.failed, timeout=PATIENCE_MS):
        click(qtbot, asked, "What did it look at?")
        brake.kill()
    assert len(told) == 1
    assert "ended unexpectedly" in told[0]
    assert page.form.answer.text() == told[0]
    answer = answered(qtbot, page, lambda: click(qtbot, asked, "What did it look at?"))
    assert answer.row == 3


def test_a_slide_is_judged_as_a_whole_and_asked_as_a_whole(
    qtbot: Any, panel: Any, square_slide: Path, make_model: Callable[..., Path]
) -> None:
    panel.add_model_file(make_model("whole", task="slide"))
    open_slide_layer(panel, square_slide)
    score_map = run_to_end(qtbot, panel).score_map
    share = float(score_map.slide_probabilities.max())
    said = f"The slide as a whole: {score_map.slide_label} ({share:.0%})."
    assert panel.results.headline.text() == said
    page = open_ask(panel)
    assert page.known.row is None
    assert "about the slide as a whole" in page.form.numbers.place.text()
    words = page.form.look.text()
    page.choose(3)
    assert page.form.look.text() == words, "the panel is as wide as before"
    page.choose(None)
    answer = answered(qtbot, page, lambda: click(qtbot, panel, "What did it look at?"))
    assert answer.row is None
    assert page.form.answer.text() == influence_words(answer, score_map.classes)
    assert "for the slide as a whole" in page.form.answer.text()
    shown = layer(panel._viewer, "xT influence")
    assert shown.visible
    assert np.nanmax(shown.data) == 1
    click(qtbot, panel, "Paint out")
    painted = panel._viewer.layers.selection.active
    columns, lines = score_map.cells[: len(score_map) // 2].T
    painted.data[lines, columns] = 1
    changed = answered(qtbot, page, lambda: click(qtbot, panel, "What if?")).score_map
    assert not np.allclose(changed.slide_probabilities, score_map.slide_probabilities)
    assert panel.chosen.result.instead


def test_a_stopped_question_is_not_answered(qtbot: Any, asked: Any) -> None:
    page = asked.pages.current
    page.choose(3)
    with qtbot.assertNotEmitted(page.asking.answered):
        click(qtbot, asked, "What did it look at?")
        assert page.form.cancel.isEnabled()
        assert page.form.answer.text().startswith("Looking for what speaks")
        click(qtbot, asked, "Stop")
        assert page.form.answer.text() == "Stopped."
        assert not page.form.cancel.isEnabled()
        qtbot.wait(500)
    # The next one is answered.
    answer = answered(qtbot, page, lambda: click(qtbot, asked, "What did it look at?"))
    assert answer.row == 3


def test_what_is_asked_of_one_slide_stays_with_it(
    qtbot: Any,
    asked: Any,
    square_slide: Path,
    tmp_path: Path,
    kept_backend: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_answer, work = threading.Event(), kept_backend.work

    def work_late(question: Any) -> Iterator[Any]:
        for event in work(question):
            assert may_answer.wait(60)
            yield event

    monkeypatch.setattr(kept_backend, "work", work_late)
    page, first = asked.pages.current, asked.chosen.slide
    page.form.shows.setCurrentIndex(list(View).index(View.DOUBT))
    page.choose(3)
    click(qtbot, asked, "What did it look at?")
    assert page.asking.busy
    other = tmp_path / "other.tiff"
    other.write_bytes(square_slide.read_bytes())
    with qtbot.assertNotEmitted(page.asking.answered):
        second = open_slide_layer(asked, other)
        assert not page.asking.busy
        may_answer.set()
        asked.pages.tabs.setCurrentIndex(0)
        run_to_end(qtbot, asked)
    assert asked.chosen.slide is second
    assert page.form.view is View.CLASSES
    asked.setup.choose_slide(first)
    assert page.form.view is View.DOUBT
    assert page.form.answer.text() == ""
    assert page.known.row == 3


def test_a_closed_panel_asks_nothing(qtbot: Any, asked: Any) -> None:
    page = asked.pages.current
    click_region(qtbot, asked, 5)
    click(qtbot, asked, "What did it look at?")
    assert page.asking.busy
    asked._viewer.window.remove_dock_widget(asked.parent())
    assert not page.asking.busy
    click_region(qtbot, asked, 60)
    assert page.known.row == 5


def test_the_panel_is_no_wider_than_300_px_on_any_page(qtbot: Any, asked: Any) -> None:
    asked.pages.current.choose(60)
    for index in range(asked.pages.tabs.count()):
        asked.pages.tabs.setCurrentIndex(index)
        assert asked.minimumSizeHint().width() <= 300
        assert asked.pages.current.minimumSizeHint().width() <= 300
    open_ask(asked)
    asked.setFixedWidth(300)
    qtbot.wait(50)
    for button in asked.pages.current.findChildren(QPushButton):
        wanted = button.fontMetrics().horizontalAdvance(button.text())
        assert button.width() >= wanted + 6, button.text()


def test_words_tell_how_far_and_what_was_not_seen() -> None:
    values = np.array([9.0, 1.0, 0.0, 0.0, np.nan], np.float32)
    answer = InfluenceMap(0, 1, 0, values, 215.4, 1022, 4)
    words = influence_words(answer, ("normal", "reactive"))
    assert (
        "Half of the influence on “reactive” rather than “normal” comes from within 215 µm."
        in words
    )
    assert "2 regions of 4 cannot be seen from here" in words
    assert "255 regions ahead and back" in words
    alone = InfluenceMap(0, 0, None, np.array([3.0, 0.0], np.float32), float("nan"), None, 1)
    assert "no context" in influence_words(alone, ("normal", "reactive"))
    assert length(1234) == "1.2 mm"
    scale = influence_scale(np.array([9.0, 5.0, 0.5, 0.0005, 0.0], np.float32), 0)
    np.testing.assert_allclose(scale[:4], [np.nan, 1, 0.5, 0], atol=1e-6)
    assert np.isnan(scale[4])
    before = made_up()
    assert what_if_words(before, before).startswith("Without 0 regions: 0 of the other")


def test_nothing_of_the_page_is_cut_off_at_1500_by_900(qtbot: Any, asked: Any) -> None:
    page, window = asked.pages.current, asked._viewer.window
    window.resize(1500, 900)
    form = page.form
    page.choose(12)
    form.pick.setCurrentIndex(form.pick.findText("Most undecided"))
    assert form.gallery.count() == 8
    lower = form.gallery.rect().bottomRight()

    def whole() -> bool:
        return bool(form.gallery.visibleRegion().contains(lower))

    qtbot.waitUntil(whole, timeout=PATIENCE_MS)
    last = form.gallery.visualItemRect(form.gallery.item(7))
    assert form.gallery.viewport().rect().contains(last)
    for button in form.findChildren(QPushButton):
        assert button.width() >= button.minimumSizeHint().width(), button.text()
        assert button.visibleRegion().contains(button.rect().bottomRight()), button.text()
    for choice in (form.shows, form.keep):
        wide = max(choice.fontMetrics().horizontalAdvance(name) for name in texts(choice))
        assert choice.width() > wide, texts(choice)


def texts(choice: Any) -> list[str]:
    return [choice.itemText(index) for index in range(choice.count())]
