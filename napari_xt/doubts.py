"""Doubtful regions as a layer: blurred, folded, marked with a pen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xt_backend.keys import Doubt

if TYPE_CHECKING:
    import numpy.typing as npt

    from xt_backend.store import ScoreMap

__all__ = ["doubt_map", "doubt_words", "doubts_layer"]

_KINDS = (Doubt.BLURRED, Doubt.FOLDED, Doubt.PEN)
"""In this order: a region with several doubts is shown as the last of them."""
_WORDS = {
    Doubt.BLURRED: "blurred",
    Doubt.FOLDED: "folded, or very dark",
    Doubt.PEN: "pen",
}
_COLORS = {
    Doubt.BLURRED: (0.34, 0.71, 0.91, 0.9),
    Doubt.FOLDED: (0.90, 0.62, 0.0, 0.9),
    Doubt.PEN: (0.94, 0.89, 0.26, 0.9),
}


def doubt_map(score_map: ScoreMap) -> npt.NDArray[np.uint8]:
    """(rows, cols): 1 and up for what is doubtful, 0 for all else."""
    quality = np.zeros(len(score_map), np.uint8)
    if score_map.quality is not None:
        for label, doubt in enumerate(_KINDS, 1):
            quality[(score_map.quality & doubt) > 0] = label
    return score_map.grid(quality, 0)


def doubt_words(score_map: ScoreMap) -> str:
    """How many regions look doubtful, and where to see them; empty where none does."""
    n = int((doubt_map(score_map) > 0).sum())
    if not n:
        return ""
    are = "region looks" if n == 1 else "regions look"
    return f"{n:,} {are} doubtful (blurred, folded or pen): the layer “xT doubtful” shows them."


def doubts_layer(score_map: ScoreMap, placed: dict[str, Any]) -> tuple[Any, dict[str, Any], str]:
    """Layer data of the doubtful regions, hidden at first.

    Args:
        score_map: What is shown.
        placed: Where the result's layers lie.
    """
    from napari.utils import DirectLabelColormap

    table: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    colors = {label: _COLORS[doubt] for label, doubt in enumerate(_KINDS, 1)}
    options = {
        **placed,
        "name": f"xT doubtful — {score_map.slide_name}",
        "colormap": DirectLabelColormap(color_dict={**table, **colors}),
        "features": {
            "index": [0, *colors],
            "picture": ["", *(_WORDS[doubt] for doubt in _KINDS)],
        },
        "opacity": 0.6,
        "blending": "translucent",
        "visible": False,
    }
    return doubt_map(score_map), options, "labels"
