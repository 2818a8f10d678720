"""Slides that are dropped on the window and whose names plain pictures have as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QDropEvent, QGuiApplication
from qtpy.QtWidgets import QWidget

from napari_xt.reader import get_reader

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["Drops"]


class Drops(QObject):
    """Opens dropped slides at once where napari would ask which plugin is meant.

    napari chooses by names alone, and TIFF and DICOM are names of ordinary pictures too: a
    preference for them would take those from their reader. Here the files themselves tell. What is
    no slide, drops of which a part is none, and those with a key held (which ask napari to stack,
    or to let the plugin be chosen) are napari's, as are names for which a plugin was chosen.

    Args:
        viewer: Its window is watched.
        open_: Opens one slide, and says itself what is wrong with it.
        parent: Owner in the sense of Qt.
    """

    def __init__(self, viewer: Viewer, open_: Callable[[Path], None], parent: QObject) -> None:
        super().__init__(parent)
        self._open = open_
        view: QWidget = viewer.window._qt_viewer
        # Before the first layer another widget lies there, which takes drops itself.
        inner = (child for child in view.findChildren(QWidget) if child.acceptDrops())
        for widget in (view, *inner):
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Take what was dropped, if it is all slides."""
        if isinstance(event, QDropEvent) and event.type() == QEvent.Type.Drop:
            paths = _slides_in(event)
            if paths:
                event.accept()
                for path in paths:
                    self._open(path)
                return True
        return bool(super().eventFilter(watched, event))


def _slides_in(event: QDropEvent) -> list[Path]:
    """The paths, if all of them are slides that nobody chose another plugin for; else none."""
    from napari.plugins.utils import get_preferred_reader

    held = Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.AltModifier
    mime = event.mimeData()
    if mime is None or QGuiApplication.keyboardModifiers() & held:
        return []
    urls = mime.urls()
    if not all(url.isLocalFile() for url in urls):
        return []
    paths = [Path(url.toLocalFile()) for url in urls]
    ours = (get_preferred_reader(path) is None and get_reader(str(path)) for path in paths)
    return paths if all(ours) else []
