"""Several slides in one window: each keeps its own result, words and layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import PATIENCE_MS, PINK, Brake, speckled, write_slide
from .test_run import click, open_slide_layer, run_to_end, wait_for_layers


@pytest.fixture
def pink_slide(tmp_path: Path) -> Path:
    """1024 x 1024 px at 0.5 um with a pink square of 256 px on paper."""
    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[256:512, 256:512] = speckled((256, 256), PINK)
    return write_slide(tmp_path / "pink.tiff", image)


def layers_on(panel: Any, name: str) -> list[Any]:
    return [
        item for item in panel._viewer.layers if item.name.startswith("xT ") and name in item.name
    ]


def choose(panel: Any, slide: Any) -> None:
    panel.form.slide.setCurrentIndex(panel.form.slide.findData(slide))


def told(panel: Any) -> dict[str, Any]:
    """What the panel says of a result."""
    results = panel.results
    return {
        "hidden": results.isHidden(),
        "shares": [label.text() for label in results._shares],
        "headline": results.headline.text(),
        "status": panel.status.text(),
        "bar": (panel.progress.value(), panel.progress.maximum()),
    }


def regions_of(plan: str) -> str:
    """How many regions a plan speaks of; how long they take is known better after each run."""
    return plan.partition(",")[0]


def looked_up_plan(qtbot: Any, panel: Any, but: str = "") -> str:
    """What the line above the buttons says, once it is another one and has been looked up."""
    qtbot.waitUntil(
        lambda: (
            panel.plan.text() != but
            and "regions of" in panel.plan.text()
            and "Runs on" in panel.plan.text()
        ),
        timeout=PATIENCE_MS,
    )
    return str(panel.plan.text())


def tells_nothing(panel: Any) -> bool:
    return panel.results.isHidden() and not panel.status.text() and panel.progress.value() < 1


def test_the_panel_speaks_of_the_chosen_slide_only(
    qtbot: Any, panel: Any, square_slide: Path, pink_slide: Path
) -> None:
    square = open_slide_layer(panel, square_slide)
    run_to_end(qtbot, panel)
    of_square = told(panel)
    assert not of_square["hidden"]
    assert of_square["status"].startswith("Done: ")

    pink = open_slide_layer(panel, pink_slide)
    assert panel.setup.slide_layer is pink
    assert tells_nothing(panel)
    choose(panel, square)
    assert told(panel) == of_square
    choose(panel, pink)
    event = run_to_end(qtbot, panel)
    of_pink = told(panel)
    assert of_pink["bar"] == (len(event.score_map), len(event.score_map))
    assert of_pink != of_square

    # Both results stay, each under its own name, and the panel goes back and forth.
    assert len(layers_on(panel, "square.tiff")) == len(layers_on(panel, "pink.tiff")) == 5
    choose(panel, square)
    assert told(panel) == of_square
    where = panel.overlay.classes
    assert where in layers_on(panel, "square.tiff")
    row, column = (places[0] for places in np.nonzero(where.data))
    panel._viewer.cursor.position = where.data_to_world((row, column))
    assert panel.results.cursor_note.text().startswith("Here: ")
    choose(panel, pink)
    assert told(panel) == of_pink

    # A slide that leaves takes its layers along, and only those.
    panel._viewer.layers.remove(square)
    qtbot.waitUntil(lambda: not layers_on(panel, "square.tiff"), timeout=PATIENCE_MS)
    assert len(layers_on(panel, "pink.tiff")) == 5
    assert told(panel) == of_pink
    panel._viewer.layers.clear()
    assert tells_nothing(panel)
    assert not panel.plan.text()
    qtbot.wait(100)
    open_slide_layer(panel, square_slide)
    assert tells_nothing(panel)


def test_the_result_lies_over_its_slide_and_under_the_next(
    qtbot: Any, panel: Any, square_slide: Path, pink_slide: Path
) -> None:
    square = open_slide_layer(panel, square_slide)
    pink = open_slide_layer(panel, pink_slide)
    choose(panel, square)
    run_to_end(qtbot, panel)
    names = [item.name for item in panel._viewer.layers]
    assert names == [
        "square.tiff",
        "xT stroma — square.tiff",
        "xT tumour — square.tiff",
        "xT classes — square.tiff",
        "xT status — square.tiff",
        "xT doubtful — square.tiff",
        "pink.tiff",
    ]
    assert panel._viewer.layers.selection.active is panel.overlay.classes
    choose(panel, pink)
    run_to_end(qtbot, panel)
    assert [item.name for item in panel._viewer.layers][: len(names)] == names
    # The switch is one for both, so that they can be compared.
    panel.results.context.setChecked(False)
    assert panel.overlay.context is False
    choose(panel, square)
    assert panel.overlay.context is False


def test_taking_a_slide_away_mid_run_leaves_the_panel_to_the_other(
    qtbot: Any,
    panel: Any,
    long_run: Any,
    pink_slide: Path,
    mid_run: Callable[[], None],
    brake: Brake,
) -> None:
    open_slide_layer(panel, pink_slide)
    of_pink = looked_up_plan(qtbot, panel)
    long = long_run()
    looked_up_plan(qtbot, panel, but=of_pink)
    mid_run()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        panel._viewer.layers.remove(long)
        assert "closed" in panel.status.text()
        brake.release()
    assert tells_nothing(panel)
    qtbot.waitUntil(lambda: not layers_on(panel, "long.tiff"), timeout=PATIENCE_MS)
    qtbot.waitUntil(
        lambda: regions_of(panel.plan.text()) == regions_of(of_pink), timeout=PATIENCE_MS
    )
    assert of_pink.startswith(f"{len(run_to_end(qtbot, panel).score_map)} regions")


def test_the_plan_is_looked_up_again_when_the_area_went_mid_run(
    qtbot: Any, panel: Any, long_run: Any, mid_run: Callable[[], None], brake: Brake
) -> None:
    long_run()
    everything = looked_up_plan(qtbot, panel)
    click(qtbot, panel, "Draw")
    shapes = panel.form.area.currentData()
    shapes.add_rectangles([[512, 512], [512, 1536], [1536, 1536], [1536, 512]])
    looked_up_plan(qtbot, panel, but=everything)
    mid_run()
    of_run = panel.plan.text()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        panel._viewer.layers.remove(shapes)
        assert panel.plan.text() == of_run
        brake.release()
    qtbot.waitUntil(
        lambda: regions_of(panel.plan.text()) == regions_of(everything), timeout=PATIENCE_MS
    )


def test_a_run_that_was_cancelled_at_once_leaves_no_half_said_plan(
    qtbot: Any, panel: Any, long_run: Any
) -> None:
    long_run()
    before = looked_up_plan(qtbot, panel)
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
        click(qtbot, panel, "Cancel")
    # A region or two may be known by now; all else is as it was.
    regions_before, regions_now = (
        regions_of(plan) for plan in (before, looked_up_plan(qtbot, panel))
    )
    assert regions_now == regions_before


def test_what_a_killed_backend_leaves_is_marked_as_partial(
    qtbot: Any, panel: Any, long_run: Any, mid_run: Callable[[], None], brake: Brake
) -> None:
    long_run()
    mid_run()
    assert "So far" in panel.results.headline.text()
    wait_for_layers(qtbot, panel)
    with qtbot.waitSignal(panel.session.failed, timeout=PATIENCE_MS):
        brake.kill()
    assert panel.results.headline.text() == ("Partial: the run failed, and judged without context.")
    assert "ended unexpectedly" in panel.status.text()
    assert layers_on(panel, "status")[0].visible
    assert run_to_end(qtbot, panel).score_map.scored.all()
    assert not panel.results.headline.text()
