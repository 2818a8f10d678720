"""Pixels of any window of a sample slide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xt_backend.samples.cells import cells_of
from xt_backend.samples.layout import Layout
from xt_backend.samples.noise import Window, value_noise
from xt_backend.samples.nuclei import STAMP_MARGIN_PX, StampSet, make_stamp_sets, stamp
from xt_backend.samples.stain import Stain, colour, draw_stain
from xt_backend.samples.texture import Textures, make_textures, wrapped
from xt_backend.samples.tissue import LayoutIndex, paint_tissue

__all__ = ["Renderer"]

BLOCK_PX = 1024
_BLUR_REACH_PX = 4


class Renderer:
    """Paints a layout.

    What a pixel becomes depends on its absolute position only, so the borders of the windows
    do not show.

    Args:
        layout: What lies where.
        textures: Of the slide.
        stamps: Nuclei of the slide.
        stain: Of the slide.
        salt: Names the slide's streams of position-addressed randomness.
    """

    def __init__(
        self,
        layout: Layout,
        textures: Textures,
        stamps: dict[str, StampSet],
        stain: Stain,
        salt: int,
    ) -> None:
        self.layout = layout
        self.stain = stain
        self._textures = textures
        self._stamps = stamps
        self._salt = salt
        self._index = LayoutIndex(layout)

    @classmethod
    def seeded(cls, layout: Layout, seed: Sequence[int]) -> Renderer:
        """Everything drawn from one seed."""
        look, texture, nuclei, places = (np.random.default_rng([*seed, k]) for k in range(10, 14))
        return cls(
            layout,
            make_textures(texture),
            make_stamp_sets(nuclei),
            draw_stain(look),
            int(places.integers(2**40)),
        )

    def render(self, window: Window) -> npt.NDArray[np.uint8]:
        """Paint a window, which may reach beyond the slide.

        Returns:
            (height, width, 3) uint8.
        """
        margin = STAMP_MARGIN_PX + _BLUR_REACH_PX
        grown = window.grown(margin)
        camera = wrapped(self._textures.sensor, window)
        light = 1 + np.float32(0.006) * value_noise(self._salt + 1, 900, window)
        near = self._index.near(grown)
        if not near.tissue:
            dust = np.zeros(window.shape, np.float32)
            return colour(self.stain, dust, dust, light, camera)
        tissue = paint_tissue(near, self._textures, self._salt, grown)
        nuclei = np.zeros(grown.shape, np.float32)
        for kind, places in cells_of(near, tissue, self._textures, self._salt, grown):
            stamp(nuclei, grown, self._stamps[kind], places)
        # Overlapping nuclei do not get dark without limit.
        nuclei = np.float32(2.2) * np.tanh(nuclei / np.float32(2.2))
        cover = np.minimum(nuclei * np.float32(1.4), 1)
        eosin = tissue.eosin * (1 - np.float32(0.55) * cover)
        haematoxylin = tissue.haematoxylin * (1 - cover) + nuclei
        thickness = 1 + np.float32(0.055) * value_noise(self._salt + 2, 350, grown)
        inner = (slice(margin, margin + window.height_px), slice(margin, margin + window.width_px))
        stains = [
            ndimage.gaussian_filter(amount * thickness, self.stain.blur_px, truncate=3.0)[inner]
            for amount in (haematoxylin, eosin)
        ]
        return colour(self.stain, stains[0], stains[1], light, camera)

    def strips(self, height_px: int = BLOCK_PX) -> Iterator[npt.NDArray[np.uint8]]:
        """The whole slide from top to bottom as (h, width, 3) uint8 pieces."""
        width_px = self.layout.width_px
        for y0_px in range(0, self.layout.height_px, height_px):
            rows = min(height_px, self.layout.height_px - y0_px)
            strip = np.empty((rows, width_px, 3), np.uint8)
            for x0_px in range(0, width_px, BLOCK_PX):
                columns = min(BLOCK_PX, width_px - x0_px)
                strip[:, x0_px : x0_px + columns] = self.render(Window(x0_px, y0_px, columns, rows))
            yield strip
