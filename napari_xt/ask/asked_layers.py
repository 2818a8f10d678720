"""The layers of the answers about one result; made when they are first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Points

from napari_xt.ask import layers as lay
from napari_xt.slide_layers import add_over

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.utils import Colormap

    from napari_xt.slide_result import SlideResult
    from xt_backend.store import ScoreMap

__all__ = ["AskedLayers"]


class AskedLayers:
    """Values per region, the mark around the region that was asked about, and the painted ones.

    Layers that the user removed are made again when they are wanted again.

    Args:
        viewer: Where they go.
        result: What they are about; they go with it.
    """

    def __init__(self, viewer: ViewerModel, result: SlideResult) -> None:
        self._viewer = viewer
        self._result = result
        self._values: dict[str, Image] = {}
        self._mark: Points | None = None
        self._paint: Labels | None = None

    def show_values(
        self,
        name: str,
        values: npt.NDArray[np.floating],
        limits: tuple[float, float],
        colormap: Colormap,
    ) -> None:
        """Show one value per region in place of the classes.

        Args:
            name: What they are; a layer of this name is used again.
            values: (n,) for the rows of the score map.
            limits: Of the colours.
            colormap: The colours.
        """
        score_map, classes = self._needed()
        grid = score_map.grid(np.asarray(values, np.float32), np.nan)
        layer = self._values.get(name)
        if layer is not None and layer in self._viewer.layers:
            layer.data = grid
        else:
            options = lay.placed(score_map, classes, name)
            options |= {
                "colormap": colormap,
                "contrast_limits": limits,
                "interpolation2d": "nearest",
            }
            self._values[name] = layer = self._add(Image(grid, **options))
        self.show_classes(False)
        layer.visible = True

    def show_classes(self, visible: bool = True) -> None:
        """Show the classes again, without values over them, or hide both."""
        for layer in self._values.values():
            layer.visible = False
        overlay = self._result.overlay
        if overlay is not None:
            overlay.classes.visible = visible

    def mark(self, row: int | None) -> None:
        """Outline a region, or none."""
        score_map, classes = self._needed()
        place = np.empty((0, 2))
        if row is not None:
            column, line = score_map.cells[row]
            scale, translate = lay.lattice_transform(score_map)
            place = np.array([[line * scale[0] + translate[0], column * scale[1] + translate[1]]])
        if self._mark is not None and self._mark in self._viewer.layers:
            self._mark.data = place
        elif row is not None:
            self._mark = self._add(Points(place, **lay.mark_options(score_map, classes)))
            self._mark.editable = False

    def paint(self) -> Labels:
        """The layer in which regions are painted out, ready to paint."""
        score_map, classes = self._needed()
        layer = self._paint
        if layer is None or layer not in self._viewer.layers:
            empty = np.zeros((score_map.lattice.n_rows, score_map.lattice.n_cols), np.uint8)
            self._paint = layer = self._add(Labels(empty, **lay.paint_options(score_map, classes)))
            layer.brush_size = 1
            layer.selected_label = 1
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = "paint"
        return layer

    @property
    def painted(self) -> npt.NDArray[np.int64]:
        """Rows of the score map that are painted out."""
        score_map, _ = self._needed()
        layer = self._paint
        if layer is None or layer not in self._viewer.layers:
            return np.empty(0, np.int64)
        columns, lines = score_map.cells.T
        return np.flatnonzero(np.asarray(layer.data)[lines, columns] > 0)

    def put_brush_down(self) -> None:
        """Leave painting; the painted regions are hidden while the answer shows them."""
        layer = self._paint
        if layer is not None and layer in self._viewer.layers:
            layer.mode = "pan_zoom"
            layer.visible = False
            overlay = self._result.overlay
            if overlay is not None and overlay.classes in self._viewer.layers:
                self._viewer.layers.selection.active = overlay.classes

    def _needed(self) -> tuple[ScoreMap, Labels]:
        score_map, overlay = self._result.score_map, self._result.overlay
        if score_map is None or overlay is None:
            raise RuntimeError("there is no result to ask about")
        return score_map, overlay.classes

    def _add(self, layer: Any) -> Any:
        before = self._viewer.layers.selection.active
        add_over(self._viewer, layer, self._result.slide)
        self._result.extras.append(layer)
        self._viewer.layers.selection.active = before
        return layer
