"""What people paint and draw on slides: it leaves the viewer with its slide, and comes back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from qtpy.QtCore import QObject

from napari_xt.slide_layers import add_over, pyramid_of
from napari_xt.turns import Turns

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    Frame = npt.NDArray[np.float64]

__all__ = ["OfSlides"]


class _OnSlide(Protocol):
    """Something that lies on a slide."""

    slide: Image

    @property
    def layers(self) -> list[Layer]:
        """Those of its layers that are in the viewer."""
        ...


Thing = TypeVar("Thing", bound=_OnSlide)
Key = tuple[Path, int, int]


class OfSlides(QObject, Generic[Thing]):
    """One thing a slide, kept for slides that are opened again.

    Args:
        viewer: Holds the layers.
        parent: Owner in the sense of Qt.
    """

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._turns = Turns(self)
        self._here: dict[Image, Thing] = {}
        self._away: dict[Key, tuple[Thing, list[Layer], Frame]] = {}
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.inserted.connect(self._on_inserted)

    def find(self, slide: Image | None) -> Thing | None:
        """That of a slide, None where there is none."""
        if slide is None:
            return None
        if slide not in self._here:
            self._come_back(slide)
        return self._here.get(slide)

    def put(self, thing: Thing) -> None:
        """Keep this for its slide."""
        self._here[thing.slide] = thing

    @property
    def all(self) -> list[Thing]:
        """Those of the slides in the viewer."""
        return [thing for slide, thing in self._here.items() if slide in self._viewer.layers]

    def _on_removed(self, event: Any) -> None:
        if event.value in self._here:
            # Not now: napari may be clearing the whole list.
            self._turns.later(partial(self._leave, event.value))

    def _on_inserted(self, event: Any) -> None:
        if _key(event.value) in self._away:
            self._turns.later(partial(self._come_back, event.value))

    def _leave(self, slide: Image) -> None:
        if slide in self._viewer.layers:  # it was put back
            return
        thing = self._here.pop(slide)
        layers, key = thing.layers, _key(slide)
        for layer in layers:
            layer.mode = "pan_zoom"
            self._viewer.layers.remove(layer)
        if layers and key is not None:
            self._away[key] = (thing, layers, _frame(slide))

    def _come_back(self, slide: Image) -> None:
        key = _key(slide)
        if key not in self._away or slide not in self._viewer.layers or slide in self._here:
            return
        thing, layers, before = self._away.pop(key)
        thing.slide = slide
        self._here[slide] = thing
        moved = _frame(slide) @ np.linalg.inv(before)
        active = self._viewer.layers.selection.active
        for layer in layers:
            if not np.allclose(moved, np.eye(3)):
                layer.affine = moved @ layer.affine.affine_matrix
            layer.units = slide.units[-2:]
            add_over(self._viewer, layer, slide)
        self._viewer.layers.selection.active = active


def _key(layer: Any) -> Key | None:
    pyramid = pyramid_of(layer)
    if pyramid is None:
        return None
    return pyramid.path.absolute(), pyramid.info.width_px, pyramid.info.height_px


def _frame(slide: Image) -> Frame:
    """(3, 3) from the slide's pixels to the world."""
    corner, down, right = (
        np.asarray(slide.data_to_world(place), float)[-2:] for place in ((0, 0), (1, 0), (0, 1))
    )
    frame = np.eye(3)
    frame[:2, 0], frame[:2, 1], frame[:2, 2] = down - corner, right - corner, corner
    return frame
