"""What the answers look like on the slide: from values per region to what napari's layers take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xt.layers import AXES, UNITS, lattice_transform, result_facts
from xt_backend.keys import PRODUCT

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.layers import Layer
    from napari.utils import Colormap

    from xt_backend.store import ScoreMap

    Floats = npt.NDArray[np.float32]

__all__ = [
    "difference_colormap",
    "influence_scale",
    "mark_options",
    "paint_options",
    "placed",
    "strength_colormap",
]

DECADES = 2
"""Influence is shown on a logarithmic scale: down to a hundredth of the strongest."""

_MARK = "#ffe14d"
_PAINT = (0.05, 0.05, 0.05, 0.8)
_LESS, _MORE = (0.0, 0.45, 0.70), (0.84, 0.37, 0.0)


def placed(score_map: ScoreMap, like: Layer, name: str) -> dict[str, Any]:
    """Options that lay a grid of one value per cell over the slide.

    Args:
        score_map: Whose lattice.
        like: A layer of the same result, which lies where the slide was moved to.
        name: What it is; the slide's name is added.
    """
    scale, translate = lattice_transform(score_map)
    return {
        "name": f"xT {name} — {score_map.slide_name}",
        "scale": scale,
        "translate": translate,
        "affine": like.affine.affine_matrix,
        "units": UNITS,
        "axis_labels": AXES,
        "blending": "translucent",
        "metadata": {PRODUCT: result_facts(score_map)},
    }


def influence_scale(values: Floats, row: int | None) -> Floats:
    """Influence for the eye: 1 for the strongest, 0 for a hundredth of it and less, NaN for none.

    Args:
        values: (n,) as of `InfluenceMap`.
        row: The region itself, which is left out; None for the whole slide.
    """
    others = values.astype(np.float64)
    if row is not None:
        others[row] = np.nan
    strongest = np.nanmax(others, initial=0.0)
    shown = np.full(len(values), np.nan, np.float32)
    there = others > 0
    if strongest > 0:
        shown[there] = np.clip(1 + np.log10(others[there] / strongest) / DECADES, 0, 1)
    return shown


def strength_colormap() -> Colormap:
    """From transparent over blue and green to yellow: more is lighter, in grey and to all eyes."""
    from napari.utils import Colormap
    from napari.utils.colormaps import AVAILABLE_COLORMAPS

    steps = np.linspace(0, 1, 33)
    colors = np.array(AVAILABLE_COLORMAPS["viridis"].map(steps))
    colors[:, 3] = np.clip(0.15 + 1.2 * steps, 0, 0.9)
    colors[0, 3] = 0
    return Colormap(colors, name="xT strength", nan_color=(0.0, 0.0, 0.0, 0.0))


def difference_colormap() -> Colormap:
    """Blue for less, transparent for the same, orange for more."""
    from napari.utils import Colormap

    half = np.linspace(0, 1, 17)
    colors = [(*_LESS, 0.9 * (1 - step)) for step in half]
    colors += [(*_MORE, 0.9 * step) for step in half[1:]]
    return Colormap(colors, name="xT change", nan_color=(0.0, 0.0, 0.0, 0.0))


def mark_options(score_map: ScoreMap, like: Layer) -> dict[str, Any]:
    """Options of the layer that outlines the region that was asked about: one square point."""
    lattice = score_map.lattice
    return {
        "name": f"xT asked — {score_map.slide_name}",
        "ndim": 2,
        "affine": like.affine.affine_matrix,
        "units": UNITS,
        "axis_labels": AXES,
        "symbol": "square",
        "size": lattice.region_px * lattice.model_mpp,
        "face_color": "transparent",
        "border_color": _MARK,
        "border_width": 0.08,
        "border_width_is_relative": True,
        "canvas_size_limits": (14, 10000),
        "metadata": {PRODUCT: result_facts(score_map)},
    }


def paint_options(score_map: ScoreMap, like: Layer) -> dict[str, Any]:
    """Options of the labels layer in which regions are painted out, one pixel for each."""
    from napari.utils import DirectLabelColormap

    colors: dict[int | None, Any] = {None: _PAINT, 0: "transparent"}
    return {
        **placed(score_map, like, "what if"),
        "colormap": DirectLabelColormap(color_dict=colors),
        "opacity": 0.8,
    }
