"""Several runs in one window: one after the other, each as it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from .conftest import PATIENCE_MS, PINK, Brake, speckled, write_slide
from .test_run import button, click, open_slide_layer, wait_for_layers


@pytest.fixture
def pink_slide(tmp_path: Path) -> Path:
    """1024 x 1024 px at 0.5 um with a pink square of 256 px on paper."""
    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[256:512, 256:512] = speckled((256, 256), PINK, len(str(tmp_path)))
    return write_slide(tmp_path / "pink.tiff", image)


@pytest.fixture
def ended(panel: Any) -> list[Any]:
    """The last events of the runs that have ended."""
    events: list[Any] = []
    panel.runs.ended.connect(events.append)
    return events


@pytest.fixture
def first(long_run: Callable[[], Any], mid_run: Callable[[], None]) -> Any:
    """The slide that is at work, and stands still."""
    slide = long_run()
    mid_run()
    return slide


def look_at(panel: Any, slide: Any) -> None:
    panel.form.slide.setCurrentIndex(panel.form.slide.findData(slide))


def may_click(panel: Any) -> tuple[bool, bool]:
    return button(panel, "Run xT").isEnabled(), button(panel, "Cancel").isEnabled()


def test_a_second_slide_waits_for_its_turn(
    qtbot: Any,
    panel: Any,
    first: Any,
    brake: Brake,
    square_slide: Path,
    make_model: Callable[..., Path],
    ended: list[Any],
) -> None:
    assert may_click(panel) == (False, True)
    second = open_slide_layer(panel, square_slide)
    assert panel.setup.slide_layer is first, "the run that is watched stays in view"
    look_at(panel, second)
    panel.add_model_file(make_model())
    assert may_click(panel) == (True, False)
    assert panel.status.text().startswith("long.tiff is being run")
    qtbot.waitUntil(lambda: " regions of 32 µm" in panel.plan.text(), timeout=PATIENCE_MS)
    looked_ahead = panel.plan.text().partition(" regions of")[0]

    click(qtbot, panel, "Run xT")
    assert may_click(panel) == (False, True)
    assert panel.status.text().startswith("Waits for its turn, after 1 run.")
    assert panel.session.running
    # It will be run as it was asked for, whatever is chosen until then.
    panel.form.exclude.setChecked(True)
    look_at(panel, first)
    assert " of " in panel.status.text()
    assert may_click(panel) == (False, True)
    panel._viewer.layers.selection.active = first
    brake.release()
    qtbot.waitUntil(lambda: len(ended) == 2, timeout=PATIENCE_MS)
    names = [event.score_map.slide_name for event in ended]
    assert names == ["long.tiff", "square.tiff"]
    assert all(event.score_map.scored.all() for event in ended)
    assert not panel.session.running
    assert may_click(panel) == (True, False)
    assert panel.status.text().startswith("Done")
    wait_for_layers(qtbot, panel)
    assert panel._viewer.layers.selection.active is first, "nobody's brush is taken away"
    assert panel.chosen.spec.model.endswith("lite0-region.safetensors")
    look_at(panel, second)
    wait_for_layers(qtbot, panel)
    assert panel.status.text().startswith(f"Done: {looked_ahead} regions")
    assert str(len(ended[1].score_map)) == looked_ahead
    assert panel.chosen.spec.model == str(make_model())
    assert not panel.chosen.spec.exclude_flagged
    assert panel.chosen.score_map is not None


def test_those_that_wait_are_taken_out_and_go_on_after_a_failure(
    qtbot: Any,
    panel: Any,
    first: Any,
    brake: Brake,
    square_slide: Path,
    pink_slide: Path,
    ended: list[Any],
) -> None:
    square, pink = (open_slide_layer(panel, path) for path in (square_slide, pink_slide))
    for number, slide in enumerate((square, pink), start=1):
        look_at(panel, slide)
        click(qtbot, panel, "Run xT")
        assert f"after {number} run" in panel.status.text()
    click(qtbot, panel, "Cancel")
    assert panel.status.text() == "Not run: it was cancelled before its turn."
    assert may_click(panel) == (True, False)
    click(qtbot, panel, "Run xT")
    assert "after 2 runs" in panel.status.text()
    panel._viewer.layers.remove(square)
    assert "after 1 run." in panel.status.text()
    notification_manager.records.clear()
    brake.kill()
    qtbot.waitUntil(lambda: len(ended) == 2, timeout=PATIENCE_MS)
    (told,) = [record.message for record in notification_manager.records]
    assert "ended unexpectedly" in told
    assert ended[0] is None
    assert ended[1].score_map.slide_name == "pink.tiff"
    assert ended[1].score_map.scored.all()
    look_at(panel, first)
    assert panel.status.text() == told
    assert panel.results.headline.text().startswith("Partial: the run failed")


@pytest.mark.usefixtures("first")
def test_a_closed_panel_begins_none_of_those_that_wait(
    qtbot: Any,
    panel: Any,
    brake: Brake,
    square_slide: Path,
    ended: list[Any],
) -> None:
    second = open_slide_layer(panel, square_slide)
    look_at(panel, second)
    click(qtbot, panel, "Run xT")
    panel._viewer.window.remove_dock_widget(panel.parent())
    brake.release()
    assert not panel.session.running
    assert not panel.runs.has(panel.chosen.of(second))
    assert panel.status.text() == ""
    assert ended == []
