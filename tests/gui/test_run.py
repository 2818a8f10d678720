"""The real buttons, a real model, a real slide, a backend process that the tests share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QPushButton
from scipy.ndimage import maximum_filter

from napari_xt.words import device_words
from xt_backend.keys import RegionStatus

from .conftest import PATIENCE_MS, Brake, speckled, spoil_tile, two_squares, write_slide


def button(panel: Any, text: str) -> QPushButton:
    found = [item for item in panel.findChildren(QPushButton) if item.text() == text]
    assert len(found) == 1
    return found[0]


def click(qtbot: Any, panel: Any, text: str) -> None:
    qtbot.mouseClick(button(panel, text), Qt.MouseButton.LeftButton)


def open_slide_layer(panel: Any, path: Path) -> Image:
    (layer,) = panel._viewer.open(str(path), plugin="napari-xt")
    return layer


def run_to_end(qtbot: Any, panel: Any) -> Any:
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, panel, "Run xT")
        assert panel.session.running
    wait_for_layers(qtbot, panel)
    return waited.args[0]


def wait_for_layers(qtbot: Any, panel: Any) -> None:
    """Until all layers of the result are there; they are made one by one."""
    qtbot.waitUntil(lambda: panel.overlay is None or panel.overlay.complete, timeout=PATIENCE_MS)


def layer(viewer: Any, start: str) -> Any:
    (found,) = [item for item in viewer.layers if item.name.startswith(start)]
    return found


def world_box(item: Any, row: int, column: int) -> tuple[float, float, float, float]:
    """World y0, x0, y1, x1 of one pixel of a layer, edge to edge."""
    y0, x0 = item.data_to_world((row - 0.5, column - 0.5))
    y1, x1 = item.data_to_world((row + 0.5, column + 0.5))
    return float(y0), float(x0), float(y1), float(x1)


# The file's frame is the world whatever the layout: bounds, odd sizes, other pixel sizes.
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"mpp": 0.5},
    "coarse": {"mpp": 0.55},
    "fine": {"mpp": 0.23},
    "bounds": {"mpp": 0.5, "without_tile": lambda y0, x0: x0 < 512 or y0 < 256},
    "odd bounds": {"mpp": 0.41, "without_tile": lambda y0, x0: x0 < 768 or y0 < 256},
    "one level": {"mpp": 0.5, "levels": 1},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_overlay_lies_where_the_tissue_is(
    qtbot: Any, panel: Any, tmp_path: Path, name: str
) -> None:
    image = np.full((2048, 3072, 3), 255, np.uint8)
    two_squares(image)
    slide = open_slide_layer(panel, write_slide(tmp_path / "s.tiff", image, **LAYOUTS[name]))
    event = run_to_end(qtbot, panel)
    classes = layer(panel._viewer, "xT classes")
    mpp = LAYOUTS[name]["mpp"]
    np.testing.assert_allclose(classes.scale, 64 * 0.5)
    assert slide.units == classes.units

    # Every scored cell of the overlay covers the pixels that were read for it ...
    tissue_px = (image < 250).any(axis=2)
    boxes = event.score_map.lattice.boxes(event.score_map.cells)
    covered = np.zeros_like(tissue_px)
    for (column, row), box in zip(event.score_map.cells, boxes, strict=True):
        assert classes.data[row, column] > 0
        y0, x0, y1, x1 = world_box(classes, row, column)
        in_px = np.array([x0, y0, x1, y1]) / mpp + 0.5
        np.testing.assert_allclose(in_px, box, atol=0.51)
        left, top, right, bottom = np.clip(np.round(in_px).astype(int), 0, None)
        covered[top:bottom, left:right] = True
        # ... at the place of the world where the slide layer shows them.
        y, x = slide.world_to_data(((y0 + y1) / 2, (x0 + x1) / 2))
        np.testing.assert_array_equal(slide.data[0][round(y), round(x)], image[round(y), round(x)])
    # No tissue stays without overlay, and no overlay lies further off than two regions.
    assert not (tissue_px & ~covered).any()
    region_px = round(64 * 0.5 / mpp)
    near = maximum_filter(tissue_px, 4 * region_px + 1)
    assert (covered & near).sum() == covered.sum()
    assert np.count_nonzero(classes.data) == len(boxes)


def test_like_places_get_like_predictions_and_probabilities_match(
    qtbot: Any, panel: Any, tmp_path: Path
) -> None:
    image = np.full((2048, 3072, 3), 255, np.uint8)
    two_squares(image)
    open_slide_layer(panel, write_slide(tmp_path / "s.tiff", image))
    score_map = run_to_end(qtbot, panel).score_map
    viewer = panel._viewer
    classes, stroma, tumour = (
        layer(viewer, f"xT {part} —") for part in ("classes", "stroma", "tumour")
    )
    scored = classes.data > 0
    np.testing.assert_allclose((stroma.data + tumour.data)[scored], 1, atol=1e-5)
    assert np.isnan(stroma.data[~scored]).all()
    np.testing.assert_array_equal(
        classes.data[scored] - 1, np.argmax([stroma.data, tumour.data], axis=0)[scored]
    )
    region_only = score_map.grid(score_map.region_only_logits)
    purple, pink = region_only[8:15, 16:24, 0][1:-1, 1:-1], region_only[17:23, 25:31, 0]
    # The grain alone moves the prediction less than the colour does.
    assert abs(purple.mean() - pink.mean()) > 3 * max(purple.std(), pink.std())


def test_the_overlay_grows_from_the_first_fifth_on(
    qtbot: Any, panel: Any, long_run: Any, brake: Brake
) -> None:
    from xt_backend.engine.events import RegionsScored

    long_run()
    shares: list[float] = []

    def drawn(event: Any) -> None:
        shares.append(np.count_nonzero(layer(panel._viewer, "xT classes").data) / event.total)
        # The window draws each state that is told before there is another one.
        brake.release()
        brake.pull(RegionsScored)

    panel.session.progressed.connect(drawn)
    brake.pull(RegionsScored)
    run_to_end(qtbot, panel)
    assert 0 < shares[0] < 0.2
    assert shares == sorted(shares)
    assert len(set(shares)) >= 3
    assert np.count_nonzero(layer(panel._viewer, "xT classes").data) == len(
        panel.overlay.score_map.cells
    )
    assert not layer(panel._viewer, "xT status").visible
    assert panel.progress.value() == panel.progress.maximum()


def test_cancel_leaves_exactly_the_encoded_regions_and_marks_the_others(
    qtbot: Any, panel: Any, long_run: Any, mid_run: Callable[[], None], brake: Brake
) -> None:
    long_run()
    mid_run()
    assert not button(panel, "Run xT").isEnabled()
    context = panel.results.context
    assert not context.isEnabled()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, panel, "Cancel")
        brake.release()
    (event,) = waited.args
    assert event.cancelled
    assert event.score_map.partial
    wait_for_layers(qtbot, panel)
    viewer = panel._viewer
    classes, status = layer(viewer, "xT classes"), layer(viewer, "xT status")
    done = event.score_map.scored
    assert 0 < done.sum() < len(done)
    np.testing.assert_array_equal(classes.data > 0, event.score_map.grid(done, 0))
    np.testing.assert_array_equal(status.data > 0, event.score_map.grid(~done, 0))
    assert status.visible
    assert button(panel, "Run xT").isEnabled()
    assert not button(panel, "Cancel").isEnabled()
    assert "Cancelled" in panel.status.text()
    # Bar and switch say the same as the text; what was set is kept for later.
    assert (panel.progress.value(), panel.progress.maximum()) == (done.sum(), len(done))
    assert context.isChecked()
    assert not context.isEnabled()
    # The same run once more goes on to the end.
    again = run_to_end(qtbot, panel)
    assert not again.cancelled
    assert again.score_map.scored.all()
    assert panel.progress.value() == panel.progress.maximum() == len(done)
    assert context.isChecked()
    assert context.isEnabled()
    assert len([item for item in viewer.layers if item.name.startswith("xT classes")]) == 1


def test_cancel_before_anything_is_scored(qtbot: Any, panel: Any, square_slide: Path) -> None:
    open_slide_layer(panel, square_slide)
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, panel, "Run xT")
        click(qtbot, panel, "Cancel")
    assert waited.args[0].cancelled
    assert button(panel, "Run xT").isEnabled()
    assert run_to_end(qtbot, panel).score_map.scored.all()


def test_a_second_run_encodes_nothing_and_says_so(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    open_slide_layer(panel, square_slide)
    first = run_to_end(qtbot, panel)
    layers = list(panel._viewer.layers)
    planned: list[str] = []
    panel.session.planned.connect(lambda event: planned.append(panel.plan.text()))
    second = run_to_end(qtbot, panel)
    assert "known from an earlier run" in planned[0]
    # Now that it is over, that is said no more.
    assert "known" not in panel.plan.text()
    assert panel.plan.text().startswith(f"{len(first.score_map):,} regions of 32 µm")
    assert "Runs on" in panel.plan.text()
    assert list(panel._viewer.layers) == layers
    assert first.encoded_regions == len(first.score_map.cells)
    assert second.encoded_regions == 0
    np.testing.assert_array_equal(first.score_map.logits, second.score_map.logits)


def test_unreadable_places_are_marked(qtbot: Any, panel: Any, tmp_path: Path) -> None:
    image = np.full((4096, 4096, 3), 255, np.uint8)
    image[256:3840, 256:3840] = speckled((3584, 3584), (170, 70, 160))
    path = write_slide(tmp_path / "spoilt.tiff", image)
    spoil_tile(path, 2048, 2048)
    open_slide_layer(panel, path)
    score_map = run_to_end(qtbot, panel).score_map
    bad = score_map.status == RegionStatus.READ_ERROR
    assert 0 < bad.sum() < len(bad)
    status = layer(panel._viewer, "xT status")
    assert status.visible
    np.testing.assert_array_equal(status.data == 2, score_map.grid(bad, 0))
    assert not layer(panel._viewer, "xT classes").data[status.data == 2].any()
    assert f"{bad.sum()} could not be read" in panel.status.text()


def test_the_window_answers_all_the_time(qtbot: Any, panel: Any, long_run: Any) -> None:
    import time

    long_run()
    qtbot.wait(500)
    ticks: list[float] = []
    timer = QTimer()
    timer.setInterval(10)
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start()
    started = time.perf_counter()
    run_to_end(qtbot, panel)
    whole = time.perf_counter() - started
    timer.stop()
    longest = np.diff([started, *ticks]).max()
    assert longest < whole / 2  # all of it, were the run in the window's thread
    assert len(ticks) > 20


def test_case_24_a_failure_is_told_once_and_the_next_run_works(
    qtbot: Any, panel: Any, tmp_path: Path, square_slide: Path
) -> None:
    from napari.utils.notifications import notification_manager

    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[256:768, 256:768] = speckled((512, 512), (170, 70, 160))
    notification_manager.records.clear()
    slide = open_slide_layer(panel, write_slide(tmp_path / "unknown.tiff", image, None))
    assert "unknown" in slide.name
    assert panel.form.mpp.isEnabled()
    # What is missing is told beside its field, and shortly above the button that waits for it.
    assert panel.form.mpp_note.text() == "The slide does not state its pixel size."
    assert panel.form.mpp_note.isVisibleTo(panel)
    qtbot.waitUntil(lambda: "missing" in panel.plan.text(), timeout=PATIENCE_MS)
    assert panel.plan.text() == "The pixel size is missing. Enter it above first."
    assert not button(panel, "Run xT").isEnabled()
    notes = (panel.form.slide_note, panel.form.model_note, panel.status)
    assert "1,024 × 1,024 px" in panel.form.slide_note.text()
    assert not any("pixel size" in note.text() for note in notes)
    assert not any("pixel size" in record.message for record in notification_manager.records)
    assert not any("um/px" in label.text() for label in panel.findChildren(QLabel))
    # It need not be left to count.
    panel.form.mpp.selectAll()
    qtbot.keyClicks(panel.form.mpp, "0.25")
    assert panel.form.typed_mpp == 0.25
    assert button(panel, "Run xT").isEnabled()

    # What only the engine notices: the file is gone.
    panel.form.mpp.setValue(0.5)
    hidden = (tmp_path / "unknown.tiff").rename(tmp_path / "hidden.tiff")
    notification_manager.records.clear()
    with qtbot.waitSignal(panel.session.failed, timeout=PATIENCE_MS) as waited:
        click(qtbot, panel, "Run xT")
    texts = [record.message for record in notification_manager.records]
    assert texts == [str(waited.args[0])]
    assert "does not exist" in texts[0]
    assert button(panel, "Run xT").isEnabled()

    hidden.rename(tmp_path / "unknown.tiff")
    run_to_end(qtbot, panel)
    classes = layer(panel._viewer, "xT classes")
    assert slide.units == classes.units
    np.testing.assert_allclose(slide.scale, 0.5)
    rows, columns = np.nonzero(classes.data)
    y, x = slide.world_to_data(classes.data_to_world((rows.mean(), columns.mean())))
    np.testing.assert_allclose((y, x), 511.5, atol=2)


def test_a_pixel_size_may_be_corrected_and_run_again(
    qtbot: Any, panel: Any, tmp_path: Path
) -> None:
    image = np.full((2048, 2048, 3), 255, np.uint8)
    image[512:1536, 512:1536] = speckled((1024, 1024), (170, 70, 160))
    slide = open_slide_layer(panel, write_slide(tmp_path / "unknown.tiff", image, None))
    for mpp in (0.5, 0.25):
        panel.form.mpp.setValue(mpp)
        run_to_end(qtbot, panel)
        assert panel.form.mpp.isEnabled()
        assert panel.form.mpp.value() == mpp
        np.testing.assert_allclose(slide.scale, mpp)
        classes = layer(panel._viewer, "xT classes")
        rows, columns = np.nonzero(classes.data)
        corner = classes.data_to_world((rows.min() - 0.5, columns.min() - 0.5))
        np.testing.assert_allclose(slide.world_to_data(corner), 511.5, atol=64 * 0.5 / mpp)
    # Another slide, and back: what was typed is remembered with its layer.
    open_slide_layer(panel, write_slide(tmp_path / "other.tiff", image, 0.5))
    assert not panel.form.mpp.isEnabled()
    panel.form.slide.setCurrentIndex(panel.form.slide.findData(slide))
    assert panel.form.typed_mpp == 0.25


def test_taking_the_slide_away_ends_its_run(
    qtbot: Any, panel: Any, long_run: Any, mid_run: Callable[[], None], brake: Brake
) -> None:
    slide = long_run()
    mid_run()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        panel._viewer.layers.remove(slide)
        brake.release()
    assert waited.args[0].cancelled
    assert not button(panel, "Run xT").isEnabled()
    long_run()
    assert run_to_end(qtbot, panel).score_map.scored.all()


def test_taking_the_overlay_away_does_not_disturb_the_run(
    qtbot: Any, panel: Any, long_run: Any, mid_run: Callable[[], None], brake: Brake
) -> None:
    long_run()
    mid_run()
    wait_for_layers(qtbot, panel)
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        for item in list(panel.overlay.layers):
            panel._viewer.layers.remove(item)
        brake.release()
    assert not waited.args[0].cancelled
    assert not [item for item in panel._viewer.layers if isinstance(item, Labels)]


def test_context_can_be_switched_off_and_on(qtbot: Any, panel: Any, square_slide: Path) -> None:
    open_slide_layer(panel, square_slide)
    score_map = run_to_end(qtbot, panel).score_map
    tumour = layer(panel._viewer, "xT tumour")
    with_context = score_map.grid(score_map.probabilities)[..., 1]
    alone = score_map.grid(score_map.region_only_probabilities)[..., 1]
    assert not np.array_equal(with_context, alone, equal_nan=True)
    np.testing.assert_array_equal(tumour.data, with_context)
    panel.results.context.setChecked(False)
    np.testing.assert_array_equal(tumour.data, alone)
    np.testing.assert_array_equal(
        layer(panel._viewer, "xT classes").data,
        score_map.grid(score_map.labels(region_only=True) + 1, 0),
    )
    shares = [f"{share:.1%}" for share in score_map.fractions(region_only=True).values()]
    assert [label.text() for label in panel.results._shares] == shares
    panel.results.context.setChecked(True)
    np.testing.assert_array_equal(tumour.data, with_context)

    # The panel tells both for the region under the cursor.
    assert "Point at" in panel.results.cursor_note.text()
    row, column = (places[0] for places in np.nonzero(~np.isnan(alone)))
    panel._viewer.cursor.position = tumour.data_to_world((row, column))
    best = int(with_context[row, column] >= 0.5)
    words = panel.results.cursor_note.text()
    assert words.startswith(f"Here: {score_map.classes[best]}")
    own = int(alone[row, column] >= 0.5)
    share = alone[row, column] if own else 1 - alone[row, column]
    changed = "" if own == best else f"{score_map.classes[own]} "
    assert f"(alone {changed}{share:.0%})" in words


def test_only_what_was_drawn_is_scored(qtbot: Any, panel: Any, square_slide: Path) -> None:
    slide = open_slide_layer(panel, square_slide)
    panel.form.draw.click()
    shapes = panel.form.area.currentData()
    assert shapes.units == slide.units
    # The left half of the square, in the shapes' own px.
    shapes.add_rectangles([[512, 1024], [512, 1536], [1024, 1536], [1024, 1024]])
    boxes_of = lambda found: found.score_map.lattice.boxes(found.score_map.cells)  # noqa: E731
    boxes = boxes_of(run_to_end(qtbot, panel))
    assert (boxes[:, 0] >= 1024 - 64).all()
    assert (boxes[:, 2] <= 1536 + 64).all()
    assert len(boxes) >= 8 * 8
    panel.form.area.setCurrentIndex(0)
    assert len(boxes_of(run_to_end(qtbot, panel))) >= 16 * 8


def test_the_panel_says_before_a_run_on_which_device_and_why(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    open_slide_layer(panel, square_slide)
    qtbot.waitUntil(lambda: "Runs on" in panel.plan.text(), timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: "regions of" in panel.plan.text(), timeout=PATIENCE_MS)
    planned = []
    panel.session.planned.connect(planned.append)
    before = panel.plan.text()
    run_to_end(qtbot, panel)
    assert device_words(planned[0].device, planned[0].device_reason) in before
    # A device that is not there is told before the run, not by its failure.
    if planned[0].device == "cpu":
        panel.form.device.setCurrentText("cuda")
        qtbot.waitUntil(lambda: "no NVIDIA graphics card" in panel.plan.text(), timeout=PATIENCE_MS)
    panel.form.device.setCurrentText("cpu")
    qtbot.waitUntil(
        lambda: "Runs on the processor (as chosen)" in panel.plan.text(), timeout=PATIENCE_MS
    )


def test_the_plan_of_a_run_stays_when_the_look_ahead_comes_late(
    qtbot: Any, panel: Any, square_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_come = threading.Event()
    monkeypatch.setattr("napari_xt.plan.preview", lambda *args: may_come.wait(60) and None)
    open_slide_layer(panel, square_slide)
    qtbot.waitUntil(lambda: "Looking for tissue" in panel.plan.text(), timeout=PATIENCE_MS)
    score_map = run_to_end(qtbot, panel).score_map
    said = panel.plan.text()
    assert said.startswith(f"{len(score_map):,} regions of 32 µm")
    may_come.set()
    qtbot.wait(300)
    assert panel.plan.text() == said


def test_notes_can_be_read_in_both_themes(panel: Any) -> None:
    for theme, is_dark in (("light", False), ("dark", True)):
        panel._viewer.theme = theme
        panel.form.model_note.ensurePolished()
        ink = panel.form.model_note.palette().windowText().color().lightness()
        assert (ink > 140) if is_dark else (ink < 115)


def test_the_model_that_fits_the_slide_is_picked(
    qtbot: Any, panel: Any, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    image = np.full((512, 512, 3), 200, np.uint8)
    panel.add_model_file(make_model("coarse", 2.0))
    panel.form.model.setCurrentIndex(panel.form.model.findText(make_model().stem))
    open_slide_layer(panel, write_slide(tmp_path / "fine.tiff", image, 0.5))
    assert panel.form.model.currentText().startswith("little")
    assert "exactly" in panel.form.model_note.text()
    open_slide_layer(panel, write_slide(tmp_path / "coarse.tiff", image, 2.0))
    assert panel.form.model.currentText().startswith("coarse-2")
    panel.form.model.setCurrentIndex(panel.form.model.findText(make_model().stem))
    assert "too coarse" in panel.form.model_note.text()
    click(qtbot, panel, "Run xT")
    assert "too coarse" in panel.status.text()
    assert "tick “Enlarge coarse scans”" in panel.status.text()
    assert not panel.session.running
    panel.form.upsample.setChecked(True)
    assert "enlarged" in panel.form.model_note.text()
