"""The mask or the points of a run, drawn as they come."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from napari.layers import Labels, Layer, Points

from napari_xt import dense_layers as lay
from napari_xt.slide_layers import add_over

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_xt.layers import LayerData
    from xt_backend import store
    from xt_backend.engine.events import RegionsDecoded

__all__ = ["DenseOverlay"]

DRAW_INTERVAL_S = 0.25
"""A growing layer is drawn at most this often."""


class DenseOverlay:
    """One layer over a slide; its mask lies in a scratch file, not in memory.

    A layer that the user removed stays away; everything here belongs to the main thread.

    Args:
        viewer: Where the layer goes.
        slide: Layer of the slide; None for one that is shown alone.

    Attributes:
        frame: (3, 3) affine of the layer, from the run's um to those of the window, which differ
            where a run was told another pixel size than the slide's; None where they are one.
    """

    def __init__(self, viewer: ViewerModel, slide: Image | None = None) -> None:
        self._viewer = viewer
        self._slide = slide
        self._stack = ExitStack()
        self._canvas: npt.NDArray[np.uint8] | None = None
        self._points: list[store.Points] = []
        self._drawn = 0.0
        self.layer: Layer | None = None
        self.frame: npt.NDArray[np.float64] | None = None

    def show(self, data: LayerData) -> None:
        """Show what a finished run has written."""
        values, options, kind = data
        if self.frame is not None:
            options = {**options, "affine": self.frame}
        make = Labels if kind == "labels" else Points
        self.layer = make(values, **options)
        self.layer.editable = False
        add_over(self._viewer, self.layer, self._slide)

    def put(self, event: RegionsDecoded, score_map: store.ScoreMap) -> None:
        """Add some regions' pixels or points."""
        if event.masks is not None:
            self._paste(event, score_map)
        elif event.points is not None:
            self._points.append(event.points)
            if self.layer is None:
                self.show(lay.points_layer(event.points, score_map))
        last = event.done == event.total
        if last or time.monotonic() - self._drawn > DRAW_INTERVAL_S:
            self._draw(score_map)

    def finish(
        self, points: store.Points | None, score_map: store.ScoreMap, *, partial: bool = False
    ) -> None:
        """Show the end of a run.

        Args:
            points: All points, each object once, in place of those that came; None for masks.
            score_map: The run's.
            partial: Whether something is missing; the layer's name says so.
        """
        if points is not None:
            self._points = [points]
            if self.layer is None:
                self.show(lay.points_layer(points, score_map))
        if self.layer is not None and partial:
            self.layer.name = f"{self.layer.name} (partial)"
        self._draw(score_map)

    def remove(self) -> None:
        """Take the layer out of the viewer, and give its scratch file back."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = self._canvas = None
        self._points = []
        self._stack.close()

    def _paste(self, event: RegionsDecoded, score_map: store.ScoreMap) -> None:
        from xt_backend.outputs import SlideMask, mask_canvas
        from xt_backend.store import MaskGrid

        grid = MaskGrid(score_map.lattice)
        if self._canvas is None:
            self._canvas = self._stack.enter_context(mask_canvas(grid))
            self.show(lay.mask_layer(SlideMask.of(self._canvas, score_map), score_map.slide_name))
        assert event.masks is not None
        grid.paste(self._canvas, event.cells, event.masks)

    def _draw(self, score_map: store.ScoreMap) -> None:
        self._drawn = time.monotonic()
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            return
        if isinstance(layer, Points):
            from xt_backend.store import Points as Found

            data, columns = lay.point_columns(Found.joined(self._points), score_map)
            layer.data = data
            for name, values in columns.items():
                setattr(layer, name, values)
        elif layer.multiscale and layer.data_level == len(layer.data) - 1:
            # napari keeps the coarsest level; only new data makes it read that again.
            layer.data = list(layer.data)
        else:
            layer.refresh()
