"""From which probability on a region is called by a class, and in which colour it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog

if TYPE_CHECKING:
    from napari_xt.ask.form import AskForm
    from napari_xt.chosen import Chosen
    from xt_backend.store import ScoreMap

__all__ = ["Looks"]


class Looks:
    """Changes how the chosen result is shown; the run's own prediction stays as it is.

    Args:
        chosen: The slide and its result.
        form: Asks.
        changed: Told when something looks otherwise.
    """

    def __init__(self, chosen: Chosen, form: AskForm, changed: Callable[[], None]) -> None:
        self._chosen = chosen
        self._form = form
        self._changed = changed
        form.class_changed.connect(self.show)
        form.threshold_changed.connect(self._set_threshold)
        form.color_wanted.connect(self._pick_color)

    @property
    def _shown(self) -> ScoreMap | None:
        result = self._chosen.result
        return None if result is None or result.overlay is None else result.overlay.score_map

    def show(self) -> None:
        """Show the threshold of the class that is chosen."""
        shown, index = self._shown, self._form.class_.currentIndex()
        if shown is not None and 0 <= index < len(shown.classes):
            self._form.show_threshold(shown.thresholds.get(shown.classes[index]))

    def _set_threshold(self) -> None:
        result, shown = self._chosen.result, self._shown
        if result is None or shown is None:
            return
        name, share = self._form.class_.currentText(), self._form.threshold.value() / 100
        others = {other: value for other, value in shown.thresholds.items() if other != name}
        result.restyle(thresholds={**others, name: share} if share else others)
        self._changed()

    def _pick_color(self) -> None:
        result, shown = self._chosen.result, self._shown
        if result is None or shown is None:
            return
        index = self._form.class_.currentIndex()
        color = QColorDialog.getColor(QColor(shown.colors[index]), self._form, shown.classes[index])
        if color.isValid():
            colors = list(shown.colors)
            colors[index] = color.name()
            result.restyle(colors=tuple(colors))
            self._changed()
