"""Bringing a region into the middle of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xt.world import scene_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from xt_backend.store import ScoreMap

__all__ = ["fly_to"]

_REGION_SCREEN_PX = 150
"""So large a region is shown: with enough of its surroundings to know where it is."""


def fly_to(viewer: ViewerModel, classes: Layer, score_map: ScoreMap, row: int) -> None:
    """Look at a region.

    Args:
        viewer: Whose camera.
        classes: A layer with one pixel per cell of the lattice.
        score_map: Of the region.
        row: Its row.
    """
    column, line = score_map.cells[row].tolist()
    middle, beside = (
        np.asarray(classes.data_to_world((line, x)))[-2:] for x in (column, column + 1)
    )
    step_world = float(np.linalg.norm(beside - middle))
    camera = scene_of(viewer).camera
    camera.center = tuple(middle)
    camera.zoom = _REGION_SCREEN_PX / step_world
