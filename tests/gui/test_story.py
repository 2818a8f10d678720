"""A slide's whole story, as a person goes through it: open it, run, ask, correct, save, reopen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_xt.ask.form import View
from napari_xt.slide_layers import pyramid_of
from xt_backend.keys import RunFile
from xt_backend.model import read_card
from xt_backend.model.library import models_folder
from xt_backend.samples import write_samples
from xt_backend.store import ScoreMap

from .person import Person


@pytest.fixture(scope="session")
def small_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (sample,) = write_samples(tmp_path_factory.mktemp("sample"), 1, 2048, seed=5)
    return sample.slide


@pytest.fixture
def real_section(shared_data: Path) -> Path:
    return shared_data / "her2st-slides" / "her2st_C2.svs"


@pytest.mark.parametrize(
    ("slide_name", "model", "half_px", "sees_context"),
    [("small_sample", "context-demo", 180, True), ("real_section", "breast-demo", 36, False)],
)
@pytest.mark.timeout(900)
def test_a_story(
    request: pytest.FixtureRequest,
    qtbot: Any,
    make_napari_viewer: Callable[[], Any],
    kept_backend: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    slide_name: str,
    model: str,
    half_px: int,
    sees_context: bool,
) -> None:
    slide: Path = request.getfixturevalue(slide_name)
    monkeypatch.setattr("napari_xt.widget.make_backend", lambda: kept_backend)
    me = Person(qtbot, make_napari_viewer(), monkeypatch)
    open_and_run(me, slide, model, half_px)
    ask(me, sees_context)
    name = f"taught-on-{slide.stem}"
    teach(me, name)
    kept = tmp_path / f"{slide.stem}-xt"
    save(me, kept)
    before = what_is_seen(me)
    me.viewer.close()

    again = Person(qtbot, make_napari_viewer(), monkeypatch)
    again.drop(kept)
    again.see(lambda: any(pyramid_of(layer) is not None for layer in again.viewer.layers))
    again.see_run_end()
    assert what_is_seen(again) == before
    (file,) = kept.glob(f"*{RunFile.SCORE_MAP}")
    own = models_folder() / f"{name}.safetensors"
    assert ScoreMap.load(file).model_sha256 == read_card(own).state_sha256
    # The model is still there, and the slide with its result can be asked at once.
    again.turn_to("Run")
    again.pick(again.panel.form.model, name)
    page = again.turn_to("Ask")
    again.pick(page.form.pick, "Most undecided")
    again.click_picture(page.form.gallery)
    again.press("What did it look at?")
    again.see(lambda: page.known.influence is not None)


def open_and_run(me: Person, slide: Path, model: str, half_px: int) -> None:
    """From the menu; an area is drawn round the middle, and only it is scored."""
    me.answer_dialog("getOpenFileName", slide)
    menu = me.panel.setup.slide_menu.menu
    (entry,) = [action for action in menu.actions() if action.text() == "Open a slide …"]
    entry.trigger()
    me.see(lambda: me.panel.form.slide.currentText() == slide.name)
    me.pick(me.panel.form.model, model)
    me.press("Draw")
    for right, down in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        me.click_slide(half_px * right, half_px * down)
    me.key(Qt.Key.Key_Escape)
    me.see(lambda: len(me.panel.form.area.currentData().data) == 1)
    me.press("Run xT")
    me.see_run_end()
    found = me.panel.chosen.score_map
    assert found.model_name == model
    assert found.scored.all()
    assert 20 < len(found) < 700


def ask(me: Person, sees_context: bool) -> None:
    """What did context change, what did this region look at, what if it were not there."""
    page = me.turn_to("Ask")
    form, score_map = page.form, me.panel.chosen.score_map
    assert form.alone.isVisible() != sees_context
    me.pick(form.shows, "What context changed")
    (changed,) = [
        one for one in me.viewer.layers if one.name.startswith("xT change") and one.visible
    ]
    assert np.isfinite(np.asarray(changed.data)).sum() == score_map.scored.sum()
    assert form.view is View.CHANGE

    me.pick(form.pick, "Most undecided")
    me.click_picture(form.gallery)
    row = form.gallery.rows()[0]
    assert page.known.row == row
    label = score_map.labels()[row]
    assert form.numbers.title.text().startswith(score_map.classes[label])
    me.press("What did it look at?")
    me.see(lambda: page.known.influence is not None)
    if sees_context:
        assert "of the influence on" in form.answer.text()
    else:
        assert "this model has no context" in form.answer.text()

    me.press("Paint out")
    me.click_slide()
    me.press("What if?")
    me.see(lambda: form.answer.text().startswith("Without 1 region"))
    assert me.panel.chosen.result.instead
    me.press("Back")
    assert not me.panel.chosen.result.instead


def teach(me: Person, name: str) -> None:
    """Call the region in the middle of the picture something else, and train under a name."""
    page = me.turn_to("Correct")
    score_map = me.panel.chosen.score_map
    asked = me.panel.pages.pages["Ask"].known.row
    wrong = score_map.labels()[asked]
    right = 1 if wrong == 0 else 0
    me.press("Paint regions")
    me.press(f"{right + 1}  {score_map.classes[right]}")
    me.click_slide()
    me.see(lambda: page.form.counts.text().startswith("Corrected: 1 region"))
    me.type_into(page.form.name, name)
    me.press("Train")
    me.see(lambda: page.form.status.text().startswith(f"{name} is right on 1 of 1"))
    me.see_run_end()
    after = me.panel.chosen.score_map
    assert after.model_name == name
    assert after.labels()[(after.cells == score_map.cells[asked]).all(axis=1)] == right


def save(me: Person, folder: Path) -> None:
    page = me.turn_to("Save")
    me.answer_dialog("getSaveFileName", folder)
    me.press("Save run …")
    me.see(lambda: page.status.text().startswith(f"Saved in {folder.name}"))


def what_is_seen(me: Person) -> dict[str, Any]:
    """Of a result: what lies over the slide and where, and what the panel says."""
    panel = me.panel
    shown = {one.name: one for one in me.viewer.layers if one.name.startswith("xT ")}
    legend = [bar.format() for bar in panel.results._bars]
    return {
        "slide": panel.form.slide.currentText(),
        "legend": legend + [label.text() for label in panel.results._shares],
        "pixels": {name: np.nan_to_num(one.data, nan=-1).tolist() for name, one in shown.items()},
        "places": {name: list(one.data_to_world((3.0, 5.0))) for name, one in shown.items()},
        "visible": {name: one.visible for name, one in shown.items()},
    }
