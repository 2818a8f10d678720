"""The menu beside the slide: open one, look at its label, show it in the scanner's colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox, QPushButton, QWidget

from napari_xt.drops import Drops
from napari_xt.plain_words import plain
from napari_xt.preference import open_slides_here
from napari_xt.reader import SLIDE_ONLY_SUFFIXES, get_reader, get_result_reader
from napari_xt.recent import forget_recent, recent_slides
from napari_xt.slide_layers import layers_of, pyramid_of
from napari_xt.turns import Turns
from xt_backend.errors import XTError
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["SlideMenu"]

_SIDE_IMAGES = "Show the label and macro images …"
_WARNING = (
    "These pictures often show the patient's name, a case number or a barcode. They are shown in "
    "this window only and are part of no result or export of napari-xt; a screenshot or a layer "
    "that you save yourself holds them.\n\nShow them?"
)
_COLOURS = "Colours as the scanner's profile says"
_COLOURS_TIP = (
    "Shows the slide with the ICC profile of its file. For your eyes only: models always see the "
    "pixels as they are in the file."
)
_HEIGHT_SHARE = 0.3
"""Height of a side image, of the slide's."""

_SIDE_IMAGE_OF = "side_image_of"
"""In a side image's metadata: the id of the layer of its slide."""


class SlideMenu(QObject):
    """What can be done with slides besides scoring them.

    Args:
        viewer: Slides are opened here.
        button: Gets the menu.
        slide: The layer of the chosen slide.
        window: Dialogs lie over it.
    """

    def __init__(
        self,
        viewer: Viewer,
        button: QPushButton,
        slide: Callable[[], Image | None],
        window: QWidget,
    ) -> None:
        super().__init__(window)
        self._viewer, self._slide, self._window = viewer, slide, window
        self._turns = Turns(self)
        self.menu = QMenu(button)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self.fill)
        button.setMenu(self.menu)
        viewer.layers.events.removed.connect(self._on_removed)
        open_slides_here()
        self.drops = Drops(viewer, self.open, self)
        self.fill()

    def fill(self) -> None:
        """Offer what there is now."""
        menu, slide = self.menu, self._slide()
        menu.clear()
        menu.addAction("Open a slide …").triggered.connect(self._ask_file)
        menu.addAction("Open a DICOM folder …").triggered.connect(self._ask_folder)
        menu.addAction("Open a result …").triggered.connect(self._ask_result)
        paths = recent_slides()
        if paths:
            menu.addSection("Opened last")
            for path in paths:
                action = menu.addAction(path.name)
                action.setToolTip(str(path))
                action.triggered.connect(lambda _=False, path=path: self.open(path))
            menu.addAction("Forget these").triggered.connect(lambda _: forget_recent())
        menu.addSection("This slide")
        side_images = menu.addAction(_SIDE_IMAGES)
        side_images.setEnabled(slide is not None)
        side_images.triggered.connect(self._ask_side_images)
        colours = menu.addAction(_COLOURS)
        colours.setToolTip(_COLOURS_TIP)
        colours.setCheckable(True)
        pyramid = pyramid_of(slide)
        colours.setEnabled(pyramid is not None)
        colours.setChecked(pyramid is not None and pyramid.colours is not None)
        colours.triggered.connect(self.set_colours)

    def open(self, path: Path) -> None:
        """Open a slide as if it had been dropped on the window."""
        if why := _why_not(path):
            show_error(why)
            return
        try:
            self._viewer.open(str(path), plugin=PRODUCT)
        except XTError as error:
            show_error(plain(str(error)))

    def show_side_images(self) -> None:
        """Lay label, macro image and thumbnail beside the slide, one below the other."""
        from xt_backend.slides.extras import read_side_images

        slide = self._slide()
        if slide is None:
            return
        info = pyramid_of(slide).info
        try:
            images = read_side_images(pyramid_of(slide).path)
        except XTError as error:
            show_error(plain(str(error)))
            return
        if not images:
            show_info(f"{info.name} holds no label or macro image.")
            return
        self._drop_side_images(slide)
        y_px = 0.0
        for name, pixels in images.items():
            step = _HEIGHT_SHARE * info.height_px / pixels.shape[0]
            scale = np.asarray(slide.scale[-2:])
            layer = Image(
                pixels,
                rgb=True,
                name=f"{name} — {info.name}",
                scale=scale * step,
                translate=np.asarray(slide.translate[-2:])
                + scale * (y_px + step / 2, 1.03 * info.width_px + step / 2),
                units=slide.units[-2:],
                affine=slide.affine,
                metadata={PRODUCT: {_SIDE_IMAGE_OF: slide.unique_id.hex}},
            )
            self._viewer.add_layer(layer)
            y_px += 1.1 * _HEIGHT_SHARE * info.height_px
        self._viewer.layers.selection.active = slide

    def set_colours(self, on: bool) -> None:
        """Show the chosen slide by its ICC profile, or as its pixels are."""
        from xt_backend.slides.extras import to_screen_colours

        slide = self._slide()
        pyramid = pyramid_of(slide)
        if slide is None or pyramid is None:
            return
        try:
            colours = to_screen_colours(pyramid.path) if on else None
        except XTError as error:
            show_error(plain(str(error)))
            return
        if on and colours is None:
            show_info(f"{pyramid.info.name} holds no colour profile; it is shown as it is.")
            return
        pyramid.set_colours(colours)
        for layer in layers_of(self._viewer, pyramid):
            layer.data = layer.data  # the coarsest level is kept by napari as well

    def _ask_file(self) -> None:
        patterns = " ".join(
            f"*{s}" for s in (*sorted(SLIDE_ONLY_SUFFIXES), ".tif", ".tiff", ".dcm")
        )
        name, _ = QFileDialog.getOpenFileName(
            self._window, "Slide", "", f"Slides ({patterns});;All files (*)"
        )
        if name:
            self.open(Path(name))

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self._window, "Folder with the DICOM files")
        if name:
            self.open(Path(name))

    def _ask_result(self) -> None:
        from napari_xt.run_dir import is_run

        name = QFileDialog.getExistingDirectory(self._window, "Folder of a saved run")
        if name and is_run(Path(name)):
            self.open(Path(name))
        elif name:
            show_error(
                f"{Path(name).name} is no folder of a saved run. Choose the one that “Save run …” "
                "or “napari-xt score” wrote."
            )

    def _ask_side_images(self) -> None:
        answer = QMessageBox.question(self._window, "Label and macro images", _WARNING)
        if answer == QMessageBox.StandardButton.Yes:
            self.show_side_images()

    def _drop_side_images(self, slide: Image) -> None:
        number = slide.unique_id.hex
        for layer in list(self._viewer.layers):
            if layer.metadata.get(PRODUCT, {}).get(_SIDE_IMAGE_OF) == number:
                self._viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        slide = event.value
        if pyramid_of(slide) is not None:
            # Not now: napari may be clearing the whole list.
            self._turns.later(lambda: self._drop_side_images(slide))


def _why_not(path: Path) -> str:
    """Why a file or folder is not opened here, and what to do; empty where it can be tried."""
    readers = get_reader, get_result_reader
    if any(reader(str(path)) is not None for reader in readers):
        return ""
    try:
        folder, there = path.is_dir(), path.exists()
    except OSError:  # a share that is gone
        folder = there = False
    if not there:
        return f"{path.name} is not there any more. Look for it with “Open a slide …”."
    if folder:
        return (
            f"{path.name} holds no slide. Choose the folder in which the DICOM files of one slide "
            "lie, not one above it."
        )
    return (
        f"{path.name} is no slide. If it is a picture, open it with napari's File > Open and "
        "choose “Use this image as a slide”."
    )
