"""What goes wrong before or during a run is told once; the panel is idle then, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Shapes
from napari.utils.notifications import notification_manager

from napari_xt.slide_layers import pyramid_of
from xt_backend.engine.events import RunFailed
from xt_backend.errors import NoSpaceError

from .conftest import PATIENCE_MS, Brake, KeptBackend, write_slide
from .test_run import button, click, open_slide_layer, run_to_end, wait_for_layers


def told() -> list[str]:
    """What was notified since it was asked last."""
    texts = [record.message for record in notification_manager.records]
    notification_manager.records.clear()
    return texts


def assert_idle(panel: Any) -> None:
    assert not panel.session.running
    assert panel.form.isEnabled()
    assert button(panel, "Run xT").isEnabled()
    assert not button(panel, "Cancel").isEnabled()


def area_over(panel: Any, slide: Any, *rings: Any) -> Shapes:
    """An area to score, px of the slide, chosen."""
    area = Shapes(
        [np.asarray(ring, float) for ring in rings] or None,
        ndim=2,
        shape_type="polygon",
        scale=slide.scale[-2:],
        units=slide.units[-2:],
    )
    panel._viewer.add_layer(area)
    panel.form.area.setCurrentIndex(panel.form.area.findData(area))
    return area


def test_what_cannot_be_run_is_told_once_and_the_next_run_works(
    qtbot: Any,
    panel: Any,
    square_slide: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    kept_backend: KeptBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slide = open_slide_layer(panel, square_slide)
    told()

    # An area that holds nothing.
    empty = area_over(panel, slide)
    click(qtbot, panel, "Run xT")
    (text,) = told()
    assert "holds no closed shape" in text
    assert panel.status.text() == text
    assert_idle(panel)
    panel._viewer.layers.remove(empty)

    # An area beside the slide.
    outside = area_over(panel, slide, [[-900, -900], [-900, -300], [-300, -300]])
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        click(qtbot, panel, "Run xT")
    assert not len(waited.args[0].score_map)
    (text,) = told()
    assert "no tissue in the area" in text
    assert panel.status.text() == text
    assert_idle(panel)
    panel._viewer.layers.remove(outside)

    # The model's file is another one by now.
    model = tmp_path / "mine.safetensors"
    model.write_bytes(make_model().read_bytes())
    panel.add_model_file(model)
    whole = model.read_bytes()
    model.write_bytes(b"no model")
    with qtbot.waitSignal(panel.session.failed, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
    (text,) = told()
    assert model.name in text
    assert_idle(panel)

    # It is gone, which the list of models says too.
    model.unlink()
    with qtbot.waitSignal(panel.session.failed, timeout=PATIENCE_MS):
        click(qtbot, panel, "Run xT")
    (text,) = told()
    assert "mine.safetensors does not exist" in text
    panel.add_model_file(model)
    assert "does not exist" in panel.form.model_note.text()
    model.write_bytes(whole)
    panel.add_model_file(model)
    assert_idle(panel)

    # The disk is full.
    full = NoSpaceError("No space left to write the cache", "Free some space")
    with monkeypatch.context() as patched:
        patched.setattr(kept_backend, "submit", lambda spec: iter([RunFailed(spec.run_id, full)]))
        with qtbot.waitSignal(panel.session.failed, timeout=PATIENCE_MS):
            click(qtbot, panel, "Run xT")
    assert told() == [str(full)]
    assert_idle(panel)

    assert run_to_end(qtbot, panel).score_map.scored.all()
    assert told() == []


def test_a_slide_that_vanishes_mid_run_is_told_once_and_may_come_back(
    qtbot: Any,
    panel: Any,
    long_run: Callable[[], Any],
    mid_run: Callable[[], None],
    brake: Brake,
) -> None:
    path = pyramid_of(long_run()).path
    mid_run()
    told()
    with qtbot.waitSignal(panel.session.failed, timeout=PATIENCE_MS):
        away = path.rename(path.with_suffix(".away"))
        brake.release()
    (text,) = told()
    assert path.name in text
    assert panel.results.headline.text().startswith("Partial: the run failed")
    assert_idle(panel)
    wait_for_layers(qtbot, panel)
    away.rename(path)
    assert run_to_end(qtbot, panel).score_map.scored.all()
    assert told() == []


@pytest.fixture
def of_another(tmp_path: Path, square_slide: Path, make_model: Callable[..., Path]) -> Path:
    """A run beside which lies a slide of the same name and another content."""
    from xt_backend import score

    run = tmp_path / "there" / "run"
    run.parent.mkdir()
    scored = run.parent / square_slide.name
    scored.write_bytes(square_slide.read_bytes())
    score([scored], str(make_model()), run, device="cpu")
    write_slide(scored, np.full((600, 600, 3), 200, np.uint8))
    return run


def test_a_run_of_another_slide_is_told_once_and_laid_over_nothing(
    qtbot: Any, panel: Any, square_slide: Path, of_another: Path
) -> None:
    open_slide_layer(panel, square_slide)
    told()
    panel._viewer.open(str(of_another), plugin="napari-xt")
    qtbot.waitUntil(lambda: len(panel._viewer.layers) == 6, timeout=PATIENCE_MS)
    (text,) = told()
    assert "another content" in text
    assert panel.overlay is None, "the open slide's result is still to come"
    assert_idle(panel)
    assert any(layer.name.startswith("xT classes") for layer in panel._viewer.layers)
