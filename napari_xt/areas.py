"""The areas of which one can be chosen: layers of shapes that people have drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Shapes

from napari_xt.roi import roi_from_shapes
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_xt.run_form import RunForm

__all__ = ["Areas"]


class Areas:
    """Keeps the form's list of areas in step with the viewer's layers of shapes.

    Args:
        viewer: Holds the layers.
        form: Lists them.
        slide: The layer of the chosen slide.
        changed: Called when what lies in the chosen area may be another part of the slide.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        form: RunForm,
        slide: Callable[[], Image | None],
        changed: Callable[[], None],
    ) -> None:
        self._viewer, self._form = viewer, form
        self._slide, self._changed = slide, changed
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._list)
        form.draw_requested.connect(self.draw)
        self._list()

    def roi(self, slide: Image) -> dict[str, Any] | None:
        """The chosen area in px of a slide, as of `RunSpec`; None where no shapes are chosen.

        Raises:
            AnnotationError: The shapes enclose nothing.
        """
        area = self._form.area.currentData()
        return roi_from_shapes(area, slide) if isinstance(area, Shapes) else None

    def draw(self) -> None:
        """Add an empty layer of shapes to draw an area in, and choose it."""
        slide = self._slide()
        shapes = Shapes(
            ndim=2,
            name="Area to score",
            scale=(1.0, 1.0) if slide is None else slide.scale[-2:],
            units=None if slide is None else slide.units[-2:],
            edge_color="#ffd400",
            face_color="#ffd40014",
            edge_width=_outline_width(slide),
        )
        self._viewer.add_layer(shapes)
        self._form.area.setCurrentIndex(self._form.area.findData(shapes))
        shapes.mode = "add_polygon"

    def _on_inserted(self, event: Any) -> None:
        if isinstance(event.value, Shapes):
            event.value.events.data.connect(self._on_drawn)
            self._list()

    def _on_removed(self, event: Any) -> None:
        if isinstance(event.value, Shapes):
            event.value.events.data.disconnect(self._on_drawn)
            self._list()
            self._changed()

    def _on_drawn(self, event: Any) -> None:
        if event.source is self._form.area.currentData():
            self._changed()

    def _list(self, event: Any = None) -> None:
        # What belongs to the panel, as outlines of corrections do, is no area.
        layers = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Shapes) and PRODUCT not in layer.metadata
        ]
        self._form.show_areas([(layer.name, layer) for layer in layers])


def _outline_width(slide: Image | None) -> float:
    """In px of the slide, so that an outline is seen on the whole slide too."""
    return 4.0 if slide is None else max(slide.data[0].shape[:2]) / 400
