"""The window's run and the command's are the same: saved, copied as a command, dropped again."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from napari.layers import Shapes
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QPushButton

from napari_xt import layers as lay
from napari_xt.save_page import ENDED_EARLY, SavePage
from napari_xt.slide_layers import panel_of, pyramid_of
from xt_backend.keys import RunFile
from xt_backend.store import ScoreMap

from .conftest import PATIENCE_MS, Brake, two_squares, write_slide

SAME = (RunFile.SCORE_MAP, RunFile.REGIONS_CSV, RunFile.GEOJSON, RunFile.OVERLAY_PNG)


def click(qtbot: Any, within: Any, text: str) -> None:
    (found,) = [item for item in within.findChildren(QPushButton) if item.text() == text]
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    image = np.full((2048, 3072, 3), 255, np.uint8)
    two_squares(image)
    folder = tmp_path / "a folder"
    folder.mkdir()
    lacks = {"without_tile": lambda y0, x0: x0 < 512 or y0 < 256}
    return write_slide(folder / "s 1.tiff", image, **lacks)


def run_part_of(qtbot: Any, panel: Any, slide: Path) -> None:
    """Open a slide, draw an area over a part of it, run."""
    (layer,) = panel._viewer.open(str(slide), plugin="napari-xt")
    ring = np.array([[480, 1000], [480, 2060], [1000, 2060], [1000, 1000]], float) - 0.5
    area = Shapes([ring], shape_type="polygon", scale=layer.scale, units=layer.units, name="here")
    panel._viewer.add_layer(area)
    panel.form.area.setCurrentIndex(panel.form.area.findData(area))
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
    qtbot.waitUntil(
        lambda: panel.overlay is not None and panel.overlay.complete, timeout=PATIENCE_MS
    )


def test_a_saved_run_is_what_the_copied_command_makes(
    qtbot: Any, panel: Any, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.cli import main

    (page,) = panel.findChildren(SavePage)
    assert not page.save.isEnabled()
    assert not page.copy.isEnabled()
    run_part_of(qtbot, panel, slide)
    shown = panel.overlay.score_map
    panel.pages.turn_to(page)
    saved = tmp_path / "saved"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(saved), ""))
    with qtbot.waitSignal(page.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, page, "Save run …")
    assert waited.args[0] == {"done": True, "reason": "", "encoded_regions": 0}
    assert "Saved in saved" in page.status.text()

    click(qtbot, page, "Copy as command")
    words = shlex.split(QApplication.clipboard().text())
    assert words[:3] == ["napari-xt", "score", str(slide.resolve())]
    assert "--roi" in words
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert not ended.value.code
    made = tmp_path / words[words.index("--out") + 1]
    for suffix in SAME:
        ours = (saved / f"{slide.stem}{suffix}").read_bytes()
        assert ours == (made / f"{slide.stem}{suffix}").read_bytes(), suffix
    # And it is what was shown.
    again = ScoreMap.load(saved / f"{slide.stem}{RunFile.SCORE_MAP}")
    np.testing.assert_array_equal(again.cells, shown.cells)
    np.testing.assert_array_equal(again.logits, shown.logits)
    # A folder with something else in it is refused, and told once.
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with patch("napari_xt.save_page.show_error") as told:
        page.save_to(other)
        qtbot.waitUntil(lambda: told.called, timeout=PATIENCE_MS)
    assert "hold" in page.status.text()
    assert page.save.isEnabled()


def test_a_cancelled_run_is_not_saved(
    qtbot: Any,
    panel: Any,
    long_run: Callable[[], Any],
    mid_run: Callable[[], None],
    brake: Brake,
) -> None:
    (page,) = panel.findChildren(SavePage)
    long_run()
    mid_run()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Cancel")
        brake.release()
    assert panel.overlay is not None
    assert not page.save.isEnabled()
    assert page.note.text() == ENDED_EARLY
    assert page.copy.isEnabled()


def test_a_result_that_is_opened_over_a_run_stays(
    qtbot: Any,
    panel: Any,
    long_run: Callable[[], Any],
    mid_run: Callable[[], None],
    brake: Brake,
) -> None:
    long_run()
    mid_run()
    panel.show_result(replace(panel.overlay.score_map, model_name="opened", partial=False))
    assert panel.chosen.complete
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        click(qtbot, panel, "Cancel")
        brake.release()
    assert panel.overlay.score_map.model_name == "opened"
    assert panel.chosen.spec is None


def test_a_run_folder_brings_its_slide_and_layers_back(
    qtbot: Any, panel: Any, slide: Path, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    from xt_backend import score

    run = tmp_path / "run"
    score([slide], str(make_model()), run, device="cpu")
    viewer = panel._viewer
    viewer.open(str(run), plugin="napari-xt")
    qtbot.waitUntil(
        lambda: panel.overlay is not None and panel.overlay.complete, timeout=PATIENCE_MS
    )
    found = ScoreMap.load(run / f"{slide.stem}{RunFile.SCORE_MAP}")
    np.testing.assert_array_equal(panel.overlay.classes.data, lay.class_map(found))
    (opened,) = [layer for layer in viewer.layers if pyramid_of(layer) is not None]
    assert pyramid_of(opened).path == slide.resolve()
    assert panel_of(viewer) is panel
    # Dropped once more it is laid over the slide that is there.
    n_layers = len(viewer.layers)
    before = panel.overlay.score_map
    viewer.open(str(run), plugin="napari-xt")
    qtbot.waitUntil(lambda: panel.overlay.score_map is not before, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: panel.overlay.complete, timeout=PATIENCE_MS)
    assert len(viewer.layers) == n_layers


def test_a_run_of_another_machine(
    qtbot: Any, panel: Any, slide: Path, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    """Its local.json is missing or names places that are not here."""
    from napari_xt.run_dir import find_slides_of, read_run
    from xt_backend import score

    run = tmp_path / "there" / "run"
    score([slide], str(make_model()), run, device="cpu")
    moved = tmp_path / "here" / "run"
    shutil.copytree(run, moved)
    (moved / RunFile.LOCAL_JSON).unlink()
    ((alone,), more) = find_slides_of(moved)
    assert alone.slide is None
    assert more == 0
    assert "was not found" in alone.problem
    with patch("napari.utils.notifications.show_warning") as told:
        assert read_run(str(moved)) == [(None,)]
        qtbot.waitUntil(lambda: len(panel._viewer.layers) == 5, timeout=PATIENCE_MS)
    assert "put the slide beside the folder" in told.call_args[0][0]
    assert [layer.name.split()[0] for layer in panel._viewer.layers] == ["xT"] * 5
    with patch("napari.current_viewer", lambda: None), patch("napari_xt.run_dir._tell"):
        data = read_run(str(moved))
    assert [kind for _, _, kind in data] == ["image", "image", "labels", "labels", "labels"]
    # Beside the folder it is found, unless its content is another.
    beside = moved.parent / slide.name
    beside.write_bytes(slide.read_bytes())
    assert find_slides_of(moved)[0][0].slide == beside
    write_slide(beside, np.full((600, 600, 3), 200, np.uint8))
    ((other,), _) = find_slides_of(moved)
    assert other.slide is None
    assert "another content" in other.problem
