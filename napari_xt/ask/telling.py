"""The most telling regions of a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xt.ask.form import Telling
from xt_backend.engine.questions import context_change, entropy, most_telling

if TYPE_CHECKING:
    from xt_backend.store import ScoreMap

__all__ = ["telling_regions"]

N_TELLING = 8
_LEAST_CHANGE = 0.01


def telling_regions(shown: ScoreMap, kind: Telling, index: int) -> tuple[list[int], list[str]]:
    """Rows of the score map that tell most, the first one most of all, and what of each.

    Args:
        shown: The prediction.
        kind: By what they are picked out.
        index: The class where they are picked out for one.
    """
    least = 0.0
    if kind is Telling.CERTAIN:
        values = np.where(shown.labels() == index, shown.probabilities[:, index], np.nan)
    elif kind is Telling.CHANGED:
        change, differs = context_change(shown)
        values = np.abs(change).max(axis=1)
        values = np.where(differs, 1 + values, values)  # another class comes before all else
        least = _LEAST_CHANGE
    else:
        values = entropy(shown)
    rows = most_telling(shown, values, N_TELLING, least)
    found = (float(values[row]) for row in rows)
    return rows, [f"{value - (value > 1):.0%}" for value in found]
