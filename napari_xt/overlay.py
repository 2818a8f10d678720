"""The layers of one result: made once, then updated in place while regions are encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels

from napari_xt import layers as lay
from napari_xt.hover import ClassMap

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from xt_backend.store import ScoreMap

__all__ = ["Overlay"]


class Overlay:
    """Class map, probability of each class, and status of one slide's regions.

    Layers that the user removed stay away until the next run; everything here belongs to the
    main thread.

    Args:
        viewer: Where the layers go.
        score_map: First state; fixes lattice and classes.
        context: Whether the prediction with context is shown, or the region alone.
    """

    def __init__(self, viewer: ViewerModel, score_map: ScoreMap, *, context: bool = True) -> None:
        self._viewer = viewer
        self.score_map = score_map
        self.context = context
        made: list[Layer] = []
        for data, options, kind in lay.score_map_layers(score_map, context=context):
            if kind == "image":
                made.append(viewer.add_layer(Image(data, **options)))
            elif not made or not isinstance(made[-1], ClassMap):
                made.append(viewer.add_layer(ClassMap(data, **options)))
            else:
                made.append(viewer.add_layer(Labels(data, **options)))
        self.probabilities: list[Image] = made[:-2]
        self.classes: ClassMap = made[-2]
        self.status: Labels = made[-1]
        for layer in (self.classes, self.status):
            layer.editable = False
        self.labels = self.classes.data
        self.classes.follow(score_map, context=context)
        self.status.visible = bool(self.status.data.any())
        # The status bar and the layer controls follow the active layer.
        viewer.layers.selection.active = self.classes

    @property
    def layers(self) -> list[Layer]:
        """All layers of this result that are still in the viewer."""
        return [
            layer
            for layer in (*self.probabilities, self.classes, self.status)
            if layer in self._viewer.layers
        ]

    def update(self, score_map: ScoreMap) -> None:
        """Show a newer state of the same run."""
        self.score_map = score_map
        self._show()

    def set_context(self, context: bool) -> None:
        """Show the prediction with context, or from each region alone."""
        self.context = context
        self._show()

    def make_way(self) -> None:
        """Hide the regions' classes: a mask or points are shown over them."""
        self.classes.visible = False

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        for layer in self.layers:
            self._viewer.layers.remove(layer)

    def _show(self) -> None:
        score_map, context = self.score_map, self.context
        labels = self.labels = lay.class_map(score_map, context=context)
        self.classes.follow(score_map, context=context)
        present = set(map(id, self.layers))
        if id(self.classes) in present:
            self.classes.features = lay.class_features(score_map, labels)
            self.classes.data = labels
        if id(self.status) in present:
            status = lay.status_map(score_map)
            if not np.array_equal(status, self.status.data):
                self.status.data = status
            if not status.any():
                self.status.visible = False
        probabilities = lay.probability_maps(score_map, context=context)
        for index, layer in enumerate(self.probabilities):
            if id(layer) in present:
                layer.data = np.ascontiguousarray(probabilities[..., index])
