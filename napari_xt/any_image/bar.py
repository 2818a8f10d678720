"""The bar over the panel's pages: the image that is chosen is no slide yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_xt import style
from napari_xt.any_image.copying import Cancelled, SlideCopy, copy_image, remove_with
from napari_xt.any_image.source import ImageSource, is_foreign
from napari_xt.beside import Beside, Tell
from napari_xt.plain_words import plain
from xt_backend.errors import EngineError, XTError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

__all__ = ["ImageBar"]


class ImageBar(QWidget):
    """Offers to run on the active image of another plugin; hidden for everything else.

    Args:
        viewer: Holds the layers.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Image | None = None
        self._source: ImageSource | None = None
        self._beside = Beside(self._take, self, "xt-copy")
        self._stop: threading.Event | None = None
        self.note = style.note_label()
        self.use = QPushButton("Use this image as a slide")
        self.use.setToolTip(
            "Copies the image, pixel by pixel, into a slide that models can be run on. The copy "
            "goes when its layer is removed."
        )
        self.cancel = QPushButton("Stop copying")
        self.cancel.setToolTip("Leave the image as it is; what was copied so far is deleted.")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.bar.setStyleSheet(style.BAR)
        buttons = QHBoxLayout()
        buttons.addWidget(self.use, 2)
        buttons.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.note)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        self.use.clicked.connect(self.copy)
        self.cancel.clicked.connect(self._cancel)
        viewer.layers.selection.events.active.connect(self._look)
        viewer.layers.events.removed.connect(self._look)
        self.destroyed.connect(_stopper(self))
        self._look()

    @property
    def copying(self) -> bool:
        """Whether an image is being copied."""
        return self._stop is not None

    def _look(self, event: Any = None) -> None:
        """Offer the active layer, if there is something to offer."""
        if self.copying:
            if self._layer not in self._viewer.layers:
                self._cancel()
            return
        layer = self._viewer.layers.selection.active
        self._layer, self._source = (layer, None) if is_foreign(layer) else (None, None)
        self.setVisible(self._layer is not None)
        self.use.setEnabled(False)
        self.cancel.hide()
        self.bar.hide()
        if self._layer is None:
            return
        try:
            source = self._source = ImageSource.of(self._layer, self._viewer.layers)
        except XTError as error:
            self.note.setText(plain(str(error)))
            return
        width, height = source.size_px
        size = "pixel size unknown: you will be asked for it"
        if source.mpp is not None:
            size = f"{sum(source.mpp) / 2:.4g} µm per pixel"
        self.note.setText(
            f"{source.name} was opened by another plugin: {width:,} × {height:,} px, {size}. "
            f"The copy takes up to {max(1, round(source.n_bytes / 1e6)):,} MB of the cache."
        )
        self.use.setEnabled(True)

    def copy(self) -> None:
        """Copy the image, and show the copy in its place."""
        layer, source = self._layer, self._source
        if layer is None or source is None or self.copying:
            return
        stop = self._stop = threading.Event()
        self._beside.start(partial(_copy, source, source.name, stop))
        self.use.setEnabled(False)
        self.cancel.show()
        self.bar.show()
        self.bar.setRange(0, 0)

    def _cancel(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def _take(self) -> None:
        for told in self._beside.told():
            if isinstance(told, tuple):
                self.bar.setRange(0, told[1])
                self.bar.setValue(told[0])
                continue
            self._beside.leave()
            stopped, self._stop = self._stop, None
            if isinstance(told, SlideCopy) and not (stopped is not None and stopped.is_set()):
                self._show(told)
            elif isinstance(told, XTError):
                show_error(plain(str(told)))
            self._look()

    def _show(self, copy: SlideCopy) -> None:
        """Put the slide where the image is, and hide that."""
        from napari_xt.reader import read_slide

        layer, source = self._layer, self._source
        if layer is None or source is None:
            return
        try:
            ((levels, options, _),) = read_slide(copy.path, remember=False)
        except XTError as error:
            copy.remove()
            show_error(plain(str(error)))
            return
        slide = self._viewer.add_image(
            levels,
            **options,
            translate=source.translate_um,
            rotate=layer.rotate[-2:, -2:],
            shear=layer.shear[-1:],
        )
        remove_with(self._viewer.layers, slide, copy)
        for one in source.layers:
            one.visible = False


def _stopper(bar: ImageBar) -> Callable[[], None]:
    """Stops the copy when the bar is gone; holds no widget of Qt."""
    state = vars(bar)

    def stop() -> None:
        running = state.get("_stop")
        if running is not None:
            running.set()

    return stop


def _copy(source: ImageSource, name: str, stop: threading.Event, tell: Tell) -> None:
    try:
        tell(copy_image(source, name, lambda *rows: tell(rows), stop.is_set))
    except Cancelled:
        tell(None)
    except XTError:
        raise
    except Exception as error:  # the other plugin's data may fail in any way
        raise EngineError(f"{name} cannot be copied: {error}", "Open it again") from error
