"""Whether the values of a score map fit each other."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from xt_backend.errors import UsageError
from xt_backend.keys import RegionStatus

if TYPE_CHECKING:
    from xt_backend.store.score_map import ScoreMap

__all__ = ["check_values"]


def check_values(score_map: ScoreMap) -> None:
    """Refuse values that no score map has; shapes and types are checked before.

    Raises:
        UsageError: A class, colour, threshold, name, status, cell, share or number is wrong.
    """
    classes, colors = score_map.classes, score_map.colors
    if not 1 <= len(colors) == len(classes) == len(set(classes)):
        raise UsageError(
            f"{len(colors)} colours for the classes {classes}",
            "Give distinct classes with one colour each",
        )
    if unknown := set(score_map.thresholds) - set(classes):
        raise UsageError(
            f"thresholds name the unknown classes {sorted(unknown)}", f"Use {', '.join(classes)}"
        )
    if PurePosixPath(score_map.slide_name).name != score_map.slide_name:
        raise UsageError("slide_name is more than a file name", "Leave its folder out")
    if not np.isin(score_map.status, [int(status) for status in RegionStatus]).all():
        raise UsageError("status holds unknown numbers", "Use RegionStatus")
    places = (score_map.lattice.n_cols, score_map.lattice.n_rows)
    if ((score_map.cells < 0) | (score_map.cells >= places)).any():
        raise UsageError(f"cells lie outside the lattice of {places}", "Use the lattice's cells")
    tissue = score_map.tissue
    if tissue is not None and not ((tissue >= 0) & (tissue <= 1)).all():
        raise UsageError("tissue holds what is no share", "Give 0 to 1")
    if not score_map.temperature > 0:
        raise UsageError(f"the temperature is {score_map.temperature}", "Give one above 0")
