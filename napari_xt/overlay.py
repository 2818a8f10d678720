"""The layers of one result: made once, then updated in place while regions are encoded."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels

from napari_xt import layers as lay
from napari_xt.doubts import doubt_map
from napari_xt.hover import ClassMap
from napari_xt.slide_layers import add_over
from napari_xt.world import slide_frame
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from xt_backend.store import ScoreMap

__all__ = ["Overlay", "prepare_soon"]


def prepare_soon() -> None:
    """Load in a thread what napari loads with its first labels layer, and takes its time over."""
    threading.Thread(target=_prepare, name="xt-warm", daemon=True).start()


def _prepare() -> None:
    for name in ("pandas", "skimage.color.colorconv"):
        with contextlib.suppress(ImportError):  # of use to other versions of napari only
            import_module(name)


def _at_once(job: Callable[[], None]) -> None:
    job()


class Overlay:
    """Class map, probability of each class, status and doubts of one slide's regions.

    Layers that the user removed stay away until the next run; everything here belongs to the
    main thread.

    Args:
        viewer: Where the layers go.
        score_map: First state; fixes lattice and classes.
        context: Whether the prediction with context is shown, or the region alone.
        slide: Layer of the slide, shown with the score map's pixel size; the result is laid over
            it even if it was moved. None puts it where an unmoved slide would be.
        later: Takes what makes one more layer. napari needs a tenth of a second for each, so a
            window has something else in between; the class map is there from the start.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        score_map: ScoreMap,
        *,
        context: bool = True,
        slide: Image | None = None,
        later: Callable[[Callable[[], None]], None] = _at_once,
    ) -> None:
        self._viewer = viewer
        self._slide = None if slide is None else weakref.ref(slide)
        self.score_map = score_map
        self.context = context
        self.probabilities: list[Image] = []
        self.status: Labels | None = None
        self.doubts: Labels | None = None
        n_classes = len(score_map.classes)
        data, options = self._layer_data(n_classes)
        self.classes = ClassMap(data, **options)
        self.classes.editable = False
        self.classes.follow(score_map, context=context)
        # The status bar and the layer controls follow the active layer.
        add_over(viewer, self.classes, slide)
        viewer.layers.selection.active = self.classes
        doubts = [] if score_map.quality is None else [n_classes + 2]
        self._to_make = [n_classes + 1, *doubts, *range(n_classes)]
        for _ in list(self._to_make):
            later(self._make_next)

    def _layer_data(self, index: int) -> tuple[Any, dict[str, Any]]:
        """Data and options of a layer in its present state; counted as `score_map_layers` does."""
        score_map, slide = self.score_map, self._slide and self._slide()
        data, options, _ = lay.score_map_layers(score_map, context=self.context)[index]
        if slide is not None:
            options["affine"] = slide_frame(slide, score_map.slide_mpp)
        return data, options

    def _make_next(self) -> None:
        if not self._to_make:  # taken away meanwhile
            return
        index = self._to_make.pop(0)
        data, options = self._layer_data(index)
        layers = self._viewer.layers
        active = layers.selection.active
        if index < len(self.score_map.classes):
            layer: Layer = Image(data, **options)
            self.probabilities.append(layer)
            if self.classes in layers:
                layers.insert(layers.index(self.classes), layer)
            else:
                add_over(self._viewer, layer, self._slide and self._slide())
        elif index > len(self.score_map.classes) + 1:
            self.doubts = layer = Labels(data, **options)
            layer.editable = False
            add_over(self._viewer, layer, self._slide and self._slide())
        else:
            self.status = layer = Labels(data, **options)
            layer.editable = False
            layer.visible = bool(data.any())
            add_over(self._viewer, layer, self._slide and self._slide())
        layers.selection.active = active

    @property
    def complete(self) -> bool:
        """Whether all layers have been made."""
        return not self._to_make

    @property
    def shares(self) -> list[float]:
        """Share of the tissue that each class is given, as slides.csv states it."""
        return list(self.score_map.fractions(region_only=not self.context).values())

    @property
    def _made(self) -> list[Layer]:
        made = [*self.probabilities, self.classes]
        return [*made, *(layer for layer in (self.status, self.doubts) if layer is not None)]

    @property
    def layers(self) -> list[Layer]:
        """All layers of this result that are still in the viewer."""
        return [layer for layer in self._made if layer in self._viewer.layers]

    def restart(self, score_map: ScoreMap, slide: Image | None) -> bool:
        """Show another run of the same slide in these layers: making new ones takes a second.

        What the user set (opacity, what is visible) stays.

        Args:
            score_map: First state of the run.
            slide: Layer that it runs on.

        Returns:
            False, with nothing done, where the layers do not fit it or some are gone.
        """
        ours, fits = self.score_map, self._slide is not None and self._slide() is slide
        for name in ("slide_name", "lattice", "classes", "colors"):
            fits = fits and getattr(ours, name) == getattr(score_map, name)
        layers = self.layers
        if slide is None or not fits or len(layers) < len(self._made):
            return False
        frame = slide_frame(slide, score_map.slide_mpp)
        facts = lay.result_facts(score_map)
        for layer in layers:
            layer.metadata = {**layer.metadata, PRODUCT: facts}
            if not np.array_equal(layer.affine.affine_matrix, frame):
                layer.affine = frame
        self.update(score_map)
        if self.status is not None:
            self.status.visible = bool(self.status.data.any())
        if not any(layer.visible for layer in self.probabilities):
            self.classes.visible = True
        return True

    def update(self, score_map: ScoreMap) -> None:
        """Show a newer state of the same run."""
        self.score_map = score_map
        self._show()

    def set_context(self, context: bool) -> None:
        """Show the prediction with context, or from each region alone."""
        self.context = context
        self._show()

    def recolor(self) -> None:
        """Show the classes in the colours that the score map has by now."""
        colors = self.score_map.colors
        self.classes.colormap = lay.class_colormap(colors)
        for layer, color in zip(self.probabilities, colors, strict=False):
            layer.colormap = lay.probability_colormap(color)

    def make_way(self) -> None:
        """Hide the regions' classes: a mask or points are shown over them."""
        self.classes.visible = False

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        self._to_make.clear()
        for layer in self.layers:
            self._viewer.layers.remove(layer)

    def _show(self) -> None:
        score_map, context = self.score_map, self.context
        labels = lay.class_map(score_map, context=context)
        self.classes.follow(score_map, context=context)
        present = set(map(id, self.layers))
        if id(self.classes) in present:
            self.classes.features = lay.class_features(score_map, context=context)
            self.classes.data = labels
        if self.status is not None and id(self.status) in present:
            status = lay.status_map(score_map)
            if not np.array_equal(status, self.status.data):
                self.status.data = status
            if not status.any():
                self.status.visible = False
        if self.doubts is not None and id(self.doubts) in present:
            self.doubts.data = doubt_map(score_map)
        probabilities = lay.probability_maps(score_map, context=context)
        for index, layer in enumerate(self.probabilities):
            if id(layer) in present:
                layer.data = np.ascontiguousarray(probabilities[..., index])
