"""How long a training takes at the window, for bench_window.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_xt.slide_layers import panel_of
from xt_backend.keys import PRODUCT

__all__ = ["N_PAINTED", "train"]

N_PAINTED = 25
PATIENCE_S = 900.0


def train(viewer: Any, slide: Path, model: str) -> tuple[float, str]:
    """Correct a slide as a person does: run, paint, train, and wait for the new prediction.

    Args:
        viewer: Shows nothing else afterwards.
        slide: What is corrected.
        model: Name of the model that judges it.

    Returns:
        Seconds from the click on `Train` until the new model's prediction is shown, and a note on
        what it changed.

    Raises:
        SystemExit: It was refused, or did not come to an end.
    """
    viewer.layers.clear()
    viewer.open(str(slide), plugin=PRODUCT)
    panel = panel_of(viewer)
    panel.form.model.setCurrentIndex(panel.form.model.findData(model))
    _wait(panel.run_button.isEnabled)
    began = time.perf_counter()
    panel.run_button.click()
    _wait_for_run(panel)
    scored = time.perf_counter() - began
    page, before = panel.pages.pages["Correct"], panel.chosen.score_map
    panel.pages.turn_to(page)
    labels = before.labels()
    most = int(np.bincount(labels[labels >= 0]).argmax())
    other = (most + 1) % len(before.classes)
    of_class = np.flatnonzero(labels == most)
    away = np.abs(before.cells[of_class] - before.cells[of_class[len(of_class) // 2]]).max(axis=1)
    columns, lines = before.cells[of_class[np.argsort(away, kind="stable")[:N_PAINTED]]].T
    page.choose_class(other)
    page.form.paint.click()
    layer = viewer.layers.selection.active
    layer.data[lines, columns] = other + 1
    layer.refresh()
    results: list[Any] = []
    page.session.finished.connect(results.append)
    began = time.perf_counter()
    page.form.train.click()
    _wait(lambda: bool(results) or not page.session.running)
    trained = time.perf_counter() - began
    if not results:
        raise SystemExit(page.form.status.text())
    _wait_for_run(panel)
    shown = time.perf_counter() - began
    (result,) = results
    result.model.unlink()
    change = result.change
    note = (
        f"{trained:.1f} s of it training; scoring its {len(before):,} regions took {scored:.1f} s; "
        f"{sum(change.right_after.values())} of {len(columns)} painted regions are right, "
        f"{change.others_changed} of {change.others:,} others changed"
    )
    return shown, note


def _wait(sight: Callable[[], bool]) -> None:
    from qtpy.QtWidgets import QApplication

    began = time.perf_counter()
    while not sight():
        if time.perf_counter() - began > PATIENCE_S:
            raise SystemExit(f"not seen within {PATIENCE_S:g} s")
        QApplication.processEvents()
        time.sleep(0.005)


def _wait_for_run(panel: Any) -> None:
    _wait(lambda: not panel.session.running and panel.chosen.complete)
    _wait(lambda: panel.overlay.complete)
