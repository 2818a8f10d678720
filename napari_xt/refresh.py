"""Tiles that come late are drawn when they have come; the window never waits for them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_xt.pyramid import Pyramid

__all__ = ["Refresher"]

PATIENCE_S = 0.2
"""A paint waits this long for tiles, then shows what is late more coarsely."""

COALESCE_MS = 120


class Refresher(QObject):
    """Draws layers of late slides again, from the main thread.

    Args:
        viewer: Whose layers are drawn; only held weakly.
        layers_of: The layers of a viewer that show a slide.
    """

    _arrived = Signal()

    def __init__(
        self, viewer: ViewerModel, layers_of: Callable[[ViewerModel, Pyramid], list[Image]]
    ) -> None:
        super().__init__()
        self._viewer = weakref.ref(viewer)
        self._layers_of = layers_of
        self._pyramids: weakref.WeakSet[Pyramid] = weakref.WeakSet()
        self._news: weakref.WeakSet[Pyramid] = weakref.WeakSet()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COALESCE_MS)
        self._timer.timeout.connect(self._draw)
        self._arrived.connect(self._draw_soon)

    def look_after(self, pyramid: Pyramid) -> None:
        """Make this slide's reads impatient, and draw what comes late."""
        self._pyramids.add(pyramid)
        pyramid.patience_s = PATIENCE_S
        lost = weakref.ref(pyramid)
        here = weakref.ref(self)

        def tell() -> None:  # in a reading thread
            refresher, late = here(), lost()
            if refresher is None or late is None:
                return
            refresher._news.add(late)
            try:
                refresher._arrived.emit()
            except RuntimeError:  # the window is gone
                return

        pyramid.on_arrival = tell

    @property
    def waiting(self) -> bool:
        """Whether something has come that is not drawn yet."""
        return self._timer.isActive() or bool(len(self._news))

    def close_all(self) -> None:
        """Let go of all files and threads."""
        for pyramid in list(self._pyramids):
            pyramid.close()

    def _draw_soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _draw(self) -> None:
        viewer = self._viewer()
        news, self._news = list(self._news), weakref.WeakSet()
        if viewer is None:
            return
        for pyramid in news:
            for layer in self._layers_of(viewer, pyramid):
                if layer.data_level == len(layer.data) - 1:
                    # napari keeps the coarsest level; only new data makes it read that again.
                    layer.data = pyramid.levels
                else:
                    layer.refresh()
