"""Keys, tool tips, remembered choices, and colours that everybody can tell apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollBar,
    QShortcut,
)

from napari_xt import keyboard
from napari_xt.ask.form import View
from napari_xt.kept import Choices, kept_file
from napari_xt.sample_data import SAMPLE_MODEL
from xt_backend.keys import DEFAULT_COLORS
from xt_backend.model.library import list_models

from .conftest import PATIENCE_MS
from .test_run import open_slide_layer, run_to_end

OURS = (
    keyboard.GO,
    keyboard.STOP,
    keyboard.LOOK,
    keyboard.PAINT_OUT,
    keyboard.BACK,
    keyboard.CONTEXT,
    *keyboard.PAGES,
)


def controls_of(panel: Any) -> list[Any]:
    kinds = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)
    found = [widget for kind in kinds for widget in panel.findChildren(kind)]
    # Parts of other controls: arrows of lists, the text of a spin box, what scrolls a page.
    return [
        widget
        for widget in found
        if not isinstance(widget, QScrollBar)
        and not isinstance(widget.parent(), QAbstractSpinBox | QComboBox)
        and widget.metaObject().className() not in ("QToolButton", "QComboBoxPrivateScroller")
    ]


def test_every_control_of_every_page_explains_itself(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    open_slide_layer(panel, square_slide)
    run_to_end(qtbot, panel)
    for title, page in panel.pages.pages.items():
        panel.pages.turn_to(page)
        tab = panel.pages.tabs.currentIndex()
        assert panel.pages.tabs.tabToolTip(tab).endswith(f"({keyboard.PAGES[tab]})"), title
    controls = controls_of(panel)
    assert len(controls) > 40
    silent = [
        (type(one).__name__, getattr(one, "text", str)()) for one in controls if not one.toolTip()
    ]
    assert silent == []
    for word in ("logit", "token", "softmax", "lattice", "HDF5"):
        assert not [one.toolTip() for one in controls if word in one.toolTip()], word


def test_keys_are_not_those_of_napari(make_napari_viewer: Callable[[], Any]) -> None:
    make_napari_viewer()
    from napari._app_model import get_app_model
    from napari.layers import Image, Labels, Points, Shapes
    from napari.utils.shortcuts import default_shortcuts

    theirs = {str(key) for keys in default_shortcuts.values() for key in keys}
    theirs |= {str(binding.keybinding) for binding in get_app_model().keybindings}
    theirs |= {str(key) for kind in (Image, Labels, Points, Shapes) for key in kind.class_keymap}
    assert "Alt+S" in theirs
    known = {QKeySequence(key) for key in theirs}
    assert not [key for key in OURS if QKeySequence(key) in known]
    # Menus of the window are opened with Alt and the letter that is underlined in their names.
    assert not {key[-1] for key in OURS if key.startswith("Alt+")} & set("FLVPWH")


def test_keys_do_what_the_page_is_for(qtbot: Any, panel: Any, square_slide: Path) -> None:
    window = panel._viewer.window._qt_window
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow, timeout=PATIENCE_MS)
    open_slide_layer(panel, square_slide)
    qtbot.waitUntil(panel.run_button.isEnabled, timeout=PATIENCE_MS)
    canvas = panel._viewer.window._qt_viewer.canvas.native
    control, alt = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.AltModifier
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        qtbot.keyClick(canvas, Qt.Key.Key_Return, control)
        assert panel.session.running
    context = panel.results.context
    assert context.isChecked()
    qtbot.keyClick(canvas, Qt.Key.Key_X, alt)
    assert not context.isChecked()
    pages = panel.pages.pages
    for key, title in ((Qt.Key.Key_4, "Save"), (Qt.Key.Key_3, "Correct"), (Qt.Key.Key_2, "Ask")):
        qtbot.keyClick(canvas, key, alt)
        assert panel.pages.current is pages[title]
    page = pages["Ask"]
    page.choose(3)
    with qtbot.waitSignal(page.asking.answered, timeout=PATIENCE_MS):
        qtbot.keyClick(canvas, Qt.Key.Key_Q, alt)
    assert page.form.view is View.INFLUENCE
    # Of the buttons with this key only the one in view answers.
    qtbot.keyClick(canvas, Qt.Key.Key_Return, control)
    assert page.form.answer.text() == "Paint some regions first."
    assert not panel.session.running
    # A question may be stopped, and its button keeps its key when it gets other words.
    qtbot.keyClick(canvas, Qt.Key.Key_Q, alt)
    assert page.asking.busy
    qtbot.keyClick(canvas, Qt.Key.Key_Period, control)
    assert not page.asking.busy
    keys = {one.key().toString() for one in panel.findChildren(QShortcut)}
    assert keys == set(OURS)


def test_the_next_window_begins_with_the_last_choices(
    qtbot: Any,
    panel: Any,
    square_slide: Path,
    make_model: Callable[..., Path],
    make_napari_viewer: Callable[[], Any],
) -> None:
    model = make_model("mine")
    panel.add_model_file(model)
    open_slide_layer(panel, square_slide)
    panel.form.device.setCurrentIndex(panel.form.device.findData("cpu"))
    panel.form.exclude.setChecked(True)
    panel.form.upsample.setChecked(True)
    run_to_end(qtbot, panel)
    viewer = make_napari_viewer()
    _, other = viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    open_slide_layer(other, square_slide)
    assert other.form.model.currentData() == str(model)
    assert other.form.device.currentData() == "cpu"
    assert other.form.exclude.isChecked()
    assert not other.form.upsample.isChecked(), "less to be trusted, so it is asked anew"
    other.session.close()


def test_a_sample_slide_leaves_the_model_for_real_ones_as_it_was() -> None:
    Choices().keep(model="mine", device="cpu", exclude=True)
    Choices().keep(model=SAMPLE_MODEL, device="auto", exclude=False)
    assert vars(Choices()) == {"model": "mine", "device": "auto", "exclude": False}
    kept_file("choices.json").write_text("[1")
    assert vars(Choices()) == {"model": "", "device": "auto", "exclude": False}


# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
SEEN_WITHOUT = {
    "red": """0.152286 1.052583 -0.204868  0.114503 0.786281 0.099216
              -0.003882 -0.048116 1.051998""",
    "green": """0.367322 0.860646 -0.227968  0.280085 0.672501 0.047413
                -0.011820 0.042940 0.968881""",
    "blue": """1.255528 -0.076749 -0.178779  -0.078411 0.930809 0.147602
               0.004733 0.691367 0.303900""",
}


def lab(color: str, lacks: str) -> Any:
    """CIE L*a*b* of a colour as it is seen without a cone."""
    from skimage.color import rgb2lab

    share = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.array(SEEN_WITHOUT[lacks].split(), float).reshape(3, 3)
    linear = np.clip(seen @ linear, 0, 1)
    share = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(share.reshape(1, 1, 3)).ravel()


@pytest.mark.parametrize("lacks", SEEN_WITHOUT)
def test_classes_differ_to_eyes_that_lack_a_colour(lacks: str) -> None:
    palettes = {
        entry.name: [item.color for item in entry.card.classes]
        for entry in list_models()
        if entry.card is not None
    }
    assert {"context-demo", "breast-demo"} <= set(palettes)
    palettes["the first of own classes"] = list(DEFAULT_COLORS[:6])
    for name, colors in palettes.items():
        for one, other in itertools.combinations(colors, 2):
            away = np.linalg.norm(lab(one, lacks) - lab(other, lacks))
            assert away > 12, (name, one, other)  # 2.3 is what an eye can just tell
