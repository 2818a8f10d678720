"""The table of regions that CSV and Parquet share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.keys import Doubt, RegionStatus
from xt_backend.store.score_map import ScoreMap

__all__ = ["PROB_PREFIX", "QUALITY", "RegionsTable", "regions_table"]

PROB_PREFIX = "prob_"
QUALITY = "quality"
"""Column of what is doubtful about a region's picture; the last one."""


@dataclass(frozen=True)
class RegionsTable:
    """One row per selected region, in the order of the score map.

    Attributes:
        minx: (n,) int64, left of the box, level-0 px in OpenSlide's frame.
        miny: (n,) int64, top of the box.
        width: (n,) int64, level-0 px; at the slide's far edges the box may reach beyond it.
        height: (n,) int64.
        status: Word of `RegionStatus` per region.
        label: Name of the predicted class per region, "" where there is none.
        probabilities: (n, C) float32, NaN where there is no score.
        quality: Word of `Doubt` per region, "" where the picture was not looked at.
    """

    minx: npt.NDArray[np.int64]
    miny: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    status: list[str]
    label: list[str]
    probabilities: npt.NDArray[np.float32]
    quality: list[str]


def regions_table(score_map: ScoreMap) -> RegionsTable:
    """The table of a score map."""
    x0, y0, x1, y1 = score_map.lattice.boxes(score_map.cells).T
    words = {int(status): status.label for status in RegionStatus}
    names = [*score_map.classes, ""]  # label -1 finds the last
    return RegionsTable(
        x0,
        y0,
        x1 - x0,
        y1 - y0,
        [words[status] for status in score_map.status.tolist()],
        [names[label] for label in score_map.labels().tolist()],
        score_map.probabilities,
        _quality(score_map),
    )


def _quality(score_map: ScoreMap) -> list[str]:
    if score_map.quality is None:
        return [""] * len(score_map)
    words = {value: Doubt(value).label for value in np.unique(score_map.quality).tolist()}
    return [words[value] for value in score_map.quality.tolist()]
