"""A question about one slide while another one is run by the same process and device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import notification_manager

from .conftest import PATIENCE_MS, Brake, speckled, write_slide
from .test_ask import open_ask
from .test_run import click, open_slide_layer, run_to_end


def test_a_question_beside_a_run_is_answered_and_changes_nothing_of_it(
    qtbot: Any,
    panel: Any,
    square_slide: Path,
    tmp_path: Path,
    mid_run: Callable[[], None],
    brake: Brake,
) -> None:
    image = np.full((2048, 2048, 3), 255, np.uint8)
    image[256:1792, 256:1792] = speckled((1536, 1536), (150, 70, 150), 9)
    run_of = open_slide_layer(panel, write_slide(tmp_path / "another.tiff", image))
    panel.form.exclude.setChecked(True)
    alone = run_to_end(qtbot, panel).score_map
    # Nothing of it is known to the second run.
    panel._viewer.layers.remove(run_of)
    image[0, 0] = 0
    asked_of = open_slide_layer(panel, square_slide)
    run_to_end(qtbot, panel)
    open_slide_layer(panel, write_slide(tmp_path / "again.tiff", image))
    mid_run()
    panel.setup.choose_slide(asked_of)
    page = open_ask(panel)
    page.choose(5)
    ended: list[Any] = []
    panel.runs.ended.connect(ended.append)
    notification_manager.records.clear()
    click(qtbot, panel, "What did it look at?")
    assert page.asking.busy, "the window goes on while process and run stand still"
    brake.release()
    qtbot.waitUntil(lambda: page.known.influence is not None, timeout=PATIENCE_MS)
    page.known.layers.paint()
    painted = panel._viewer.layers.selection.active
    painted.data[tuple(page.known.score_map.cells[7][::-1])] = 1
    click(qtbot, panel, "What if?")
    qtbot.waitUntil(lambda: panel.chosen.result.instead, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: bool(ended), timeout=PATIENCE_MS)
    (event,) = ended
    assert event is not None
    assert not event.cancelled
    assert event.cache != "hit"
    np.testing.assert_array_equal(event.score_map.status, alone.status)
    np.testing.assert_array_equal(event.score_map.logits, alone.logits)
    assert not notification_manager.records
