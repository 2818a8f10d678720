"""The dock as it is, with the backend process that it makes itself and nothing patched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from qtpy.QtCore import Qt

PATIENCE_MS = 240_000


def test_a_run_starts_a_process_and_closing_the_dock_ends_it(
    qtbot: Any,
    make_napari_viewer: Callable[[], Any],
    make_model: Callable[..., Path],
    square_slide: Path,
) -> None:
    viewer = make_napari_viewer()
    dock, panel = viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    panel.add_model_file(make_model())
    qtbot.wait(500)
    assert panel.session._backend is None  # nothing to score, nothing started
    viewer.open(str(square_slide), plugin="napari-xt")
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        qtbot.mouseClick(panel.run_button, Qt.MouseButton.LeftButton)
    assert waited.args[0].score_map.scored.all()
    process = psutil.Process(panel.session._backend._worker.pid)
    assert process.is_running()
    viewer.window.remove_dock_widget(dock)
    gone, _ = psutil.wait_procs([process], 30)
    assert gone
    # Looking at another slide without the dock starts none.
    viewer.open(str(square_slide), plugin="napari-xt")
    qtbot.wait(1000)
    assert panel.session._backend is None
