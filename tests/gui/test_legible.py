"""Every text of every page stands out from its ground, in the light and in the dark theme."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.utils.theme import get_theme
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
)

from napari_xt.results import Results
from xt_backend.keys import DEFAULT_COLORS

from .conftest import PATIENCE_MS
from .seen import contrast, lightness, lightness_of
from .test_run import open_slide_layer, run_to_end

LEAST = 4.5
"""Of the contrast of small text, as WCAG counts it."""

ON_COLOUR = 3.9
"""Of that of a name on the colour of its class: yellow under white text has no more."""

_KINDS = (QLabel, QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox)


def texts_in(panel: Any) -> list[Any]:
    """What can be read now and is not greyed out."""
    found = [part for kind in _KINDS for part in panel.findChildren(kind)]
    inner = (QAbstractSpinBox, QComboBox)
    return [
        part
        for part in found
        if part.isVisible()
        and part.isEnabled()
        and not isinstance(part.parent(), inner)
        and written_on(part)
        and part.visibleRegion().boundingRect() == part.rect()
    ]


def place_of(part: Any, panel: Any, light: Any) -> Any:
    """The place of a widget in a picture of the panel: by itself it would lack its ground."""
    corner = part.mapTo(panel, QPoint(0, 0))
    left, top = corner.x(), corner.y()
    return light[top : top + part.height(), left : left + part.width()]


def written_on(part: Any) -> str:
    if isinstance(part, QComboBox):
        return str(part.currentText())
    if isinstance(part, QLineEdit):
        return str(part.text() or part.placeholderText())
    return str(part.text()).strip()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_text_stands_out(qtbot: Any, panel: Any, square_slide: Path, theme: str) -> None:
    open_slide_layer(panel, square_slide)
    score_map = run_to_end(qtbot, panel).score_map
    window = panel._viewer.window
    window._qt_window.show()
    window.resize(1400, 1300)
    panel._viewer.theme = theme
    panel.form.remote.fold.setChecked(True)
    panel.pages.pages["Ask"].choose(int(np.flatnonzero(score_map.scored)[0]))
    read: dict[str, float] = {}
    for title, page in panel.pages.pages.items():
        panel.pages.turn_to(page)
        qtbot.waitUntil(lambda: len(texts_in(panel)) > 5, timeout=PATIENCE_MS)
        QApplication.processEvents()
        light = lightness_of(panel)
        for part in texts_in(panel):
            shown = contrast(place_of(part, panel, light))
            read[f"{title}: {type(part).__name__} {written_on(part)!r}"] = shown
    assert len(read) > 40
    pale = {name: round(value, 1) for name, value in read.items() if value < LEAST}
    assert pale == {}


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_names_of_classes_stand_out_from_their_colours(qtbot: Any, panel: Any, theme: str) -> None:
    panel._viewer.theme = theme
    window = panel._viewer.window
    window._qt_window.show()
    window.resize(1400, 1300)
    names = tuple(f"class {number}" for number in range(len(DEFAULT_COLORS)))
    results: Results = panel.results
    results.begin(SimpleNamespace(classes=names, colors=DEFAULT_COLORS))
    results.show_shares([1.0] * len(names))
    qtbot.waitUntil(results._bars[-1].isVisible, timeout=PATIENCE_MS)
    ink = np.array(get_theme(theme).text.as_rgb_tuple()[:3]) / 255
    found = {}
    qtbot.waitUntil(lambda: results._bars[-1].width() > 100, timeout=PATIENCE_MS)
    whole = lightness_of(panel)
    for name, bar in zip(names, results._bars, strict=True):
        ground = place_of(bar, panel, whole)[6:-6, -40:-8]
        assert ground.std() < 0.02, "the colour, from end to end"
        # Thin letters are mixed with their ground: their own colour is what can be chosen.
        found[name] = contrast(np.array([lightness(ink), *[np.median(ground)] * 2]))
    assert min(found.values()) >= ON_COLOUR, found
