"""What was corrected on one slide: painted regions and drawn outlines, as layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Shapes

from napari_xt import layers as lay
from napari_xt.correct.painted import painted_areas, regions_by_class
from napari_xt.correct.pieces import GREY, without_holes
from napari_xt.roi import outlines, ring_in
from napari_xt.slide_layers import pyramid_of
from napari_xt.world import slide_frame
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_xt.correct.painted import Named
    from xt_backend.store import ScoreMap

__all__ = ["CLASS", "Marks"]

CLASS = "class"
"""Column of the outlines' features."""

_FACE = "40"
"""Opacity of an outline's area, as the end of a colour's hexadecimal text."""


class Marks:
    """Corrections of one slide, kept while others are looked at.

    Regions are painted on the lattice of a result, one pixel a region. A result on another lattice
    turns what was painted into outlines, so that nothing is lost.

    Args:
        viewer: Where the layers go.
        slide: Layer of the slide.
        changed: Called when something was painted, drawn or removed.
    """

    def __init__(self, viewer: ViewerModel, slide: Image, changed: Callable[[], None]) -> None:
        self._viewer = viewer
        self._changed = changed
        self.slide = slide
        self._score_map: ScoreMap | None = None
        self._painted: Labels | None = None
        self._outlined: Shapes | None = None

    # ------------------------------------------------------------------ layers

    @property
    def layers(self) -> list[Layer]:
        """Those that are there, in drawing order."""
        return [layer for layer in (self.outlined, self.painted) if layer is not None]

    @property
    def painted(self) -> Labels | None:
        """The layer of painted regions, None where there is none (any more)."""
        return self._painted if self._painted in self._viewer.layers else None

    @property
    def outlined(self) -> Shapes | None:
        """The layer of outlines, None where there is none (any more)."""
        return self._outlined if self._outlined in self._viewer.layers else None

    def follow(self, score_map: ScoreMap) -> None:
        """Correct this result from now on."""
        before, self._score_map = self._score_map, score_map
        layer = self.painted
        if before is None or layer is None:
            return
        same = before.lattice == score_map.lattice and before.classes == score_map.classes
        if not same:
            named = painted_areas(before, np.asarray(layer.data))
            self._viewer.layers.remove(layer)
            self.add(named, unknown_too=True)
        else:
            layer.affine = slide_frame(self.slide, score_map.slide_mpp)

    def paint_layer(self) -> Labels:
        """The layer to paint regions on, made if there is none."""
        layer = self.painted
        if layer is not None:
            return layer
        score_map = self._known()
        lattice = score_map.lattice
        scale, translate = lay.lattice_transform(score_map)
        layer = Labels(
            np.zeros((lattice.n_rows, lattice.n_cols), np.uint8),
            name=f"Corrected regions — {score_map.slide_name}",
            scale=scale,
            translate=translate,
            affine=slide_frame(self.slide, score_map.slide_mpp),
            units=lay.UNITS,
            axis_labels=lay.AXES,
            metadata={PRODUCT: {"corrections": list(score_map.classes)}},
            colormap=lay.class_colormap(score_map.colors),
            opacity=0.9,
            blending="translucent",
        )
        layer.brush_size = 1
        layer.contiguous = False
        layer.events.paint.connect(lambda event: self._changed())
        layer.events.set_data.connect(lambda event: self._changed())
        self._painted = layer
        self._viewer.add_layer(layer)
        return layer

    def outline_layer(self) -> Shapes:
        """The layer to draw outlines on, made if there is none."""
        layer = self.outlined
        if layer is not None:
            return layer
        width = max(self.slide.data[0].shape[:2]) / 500
        layer = Shapes(
            ndim=2,
            name=f"Corrected outlines — {self._known().slide_name}",
            scale=self.slide.scale[-2:],
            units=self.slide.units[-2:],
            edge_width=width,
            features={CLASS: np.array([], dtype=object)},
            metadata={PRODUCT: {lay.DRAWN: "corrections"}},
        )
        layer.events.data.connect(lambda event: self._changed())
        self._outlined = layer
        self._viewer.add_layer(layer)
        return layer

    def choose(self, index: int, *, selected_too: bool = True) -> None:
        """Paint and draw with a class from now on.

        Args:
            index: Of the class; -1 rubs out what is painted; one that is none is ignored.
            selected_too: Whether selected outlines become it.
        """
        score_map = self._known()
        if index >= len(score_map.classes):
            return
        painted, outlined = self.painted, self.outlined
        if painted is not None:
            painted.selected_label = index + 1
        if outlined is None or index < 0:
            return
        name, color = score_map.classes[index], score_map.colors[index]
        selected = sorted(outlined.selected_data)
        outlined.feature_defaults = {CLASS: name}
        recolored = contextlib.nullcontext() if selected_too else outlined.block_update_properties()
        with recolored:
            outlined.current_edge_color, outlined.current_face_color = color, color + _FACE
        if selected and selected_too:
            features = outlined.features.copy()
            features.loc[selected, CLASS] = name
            outlined.features = features
            self._changed()

    # ------------------------------------------------------------------ what they say

    @property
    def any(self) -> bool:
        """Whether something is corrected."""
        painted, outlined = self.painted, self.outlined
        drawn = outlined is not None and len(outlined.data) > 0
        return drawn or (painted is not None and bool(painted.data.any()))

    def areas(self) -> list[Named]:
        """Class and area, level-0 px, in drawing order: what was painted lies on top."""
        drawn, painted = self._drawn_areas(), self.painted
        if painted is None:
            return drawn
        return drawn + painted_areas(self._known(), np.asarray(painted.data))

    def counting(self) -> Callable[[], dict[str, int]]:
        """What counts, in any thread, the regions that are corrected by now.

        Returns:
            Gives the number of regions of the result by class, as training counts them.
        """
        score_map, drawn, painted = self._known(), self._drawn_areas(), self.painted
        cells = None if painted is None else np.array(painted.data)

        def count() -> dict[str, int]:
            named = drawn + ([] if cells is None else painted_areas(score_map, cells))
            return regions_by_class(score_map, named)

        return count

    def add(self, named: Sequence[Named], *, unknown_too: bool = False) -> list[str]:
        """Add areas as outlines.

        Args:
            named: Class and area, level-0 px.
            unknown_too: Whether areas of classes that the result does not know are added, in grey.

        Returns:
            Classes that the result does not know.
        """
        score_map = self._known()
        layer = self.outline_layer()
        colors = dict(zip(score_map.classes, score_map.colors, strict=True))
        unknown = sorted({name or "no class" for name, _ in named if name not in colors})
        drawn_with = layer.feature_defaults.copy()
        for name, area in named:
            if name not in colors and not unknown_too:
                continue
            color = colors.get(name, GREY)
            rings = [
                ring_in(layer, self.slide, np.asarray(piece.exterior.coords)[:-1])
                for piece in without_holes(area)
            ]
            if not rings:
                continue
            layer.feature_defaults = {CLASS: name}
            layer.add_polygons(rings, edge_color=color, face_color=color + _FACE)
        layer.feature_defaults = drawn_with
        self._changed()
        return unknown

    def clear(self) -> None:
        """Take all of it back."""
        for layer in (self.painted, self.outlined):
            if layer is not None:
                self._viewer.layers.remove(layer)
        self._painted = self._outlined = None
        self._changed()

    @property
    def bounds_px(self) -> tuple[float, float]:
        """(x, y) from which QuPath counts."""
        left, top, _, _ = pyramid_of(self.slide).info.bounds_px
        return float(left), float(top)

    def _known(self) -> ScoreMap:
        if self._score_map is None:
            raise RuntimeError("corrections are of a result")
        return self._score_map

    def _drawn_areas(self) -> list[Named]:
        layer = self.outlined
        if layer is None:
            return []
        names = layer.features[CLASS].tolist()
        return [(str(names[i]), area) for i, area in outlines(layer, self.slide)]
