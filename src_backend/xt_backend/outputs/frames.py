"""The tables as pandas frames and plain values, for scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xt_backend.outputs.points import point_kinds
from xt_backend.outputs.regions_table import PROB_PREFIX, QUALITY, regions_table
from xt_backend.outputs.slides_csv import (
    COUNT_PREFIX,
    FRACTION_PREFIX,
    SlideRow,
    any_screened,
    slides_csv_columns,
)
from xt_backend.outputs.text import visible
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["points_frame", "regions_columns", "regions_frame", "slide_values", "slides_frame"]


def slide_values(
    row: SlideRow, classes: Sequence[str], kinds: Sequence[str] = ()
) -> dict[str, Any]:
    """A row of slides.csv by column; None where there is no value or no finite one."""
    values: dict[str, Any] = {}
    for column in slides_csv_columns(classes, kinds, screened=any_screened([row])):
        values[column] = getattr(row, column, None)
    for name in classes:
        values[PROB_PREFIX + visible(name)] = row.probabilities.get(name)
        values[FRACTION_PREFIX + visible(name)] = row.fractions.get(name)
    for name in kinds:
        values[COUNT_PREFIX + visible(name)] = row.counts.get(name)
    values["status"] = str(row.status)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def slides_frame(
    rows: Sequence[SlideRow], classes: Sequence[str], kinds: Sequence[str] = ()
) -> pd.DataFrame:
    """One line per input, with the columns of slides.csv."""
    import pandas as pd

    return pd.DataFrame(
        [slide_values(row, classes, kinds) for row in rows],
        columns=slides_csv_columns(classes, kinds, screened=any_screened(rows)),
    )


def regions_columns(classes: Sequence[str]) -> list[str]:
    """The columns of `regions_frame` for a model's classes."""
    box = ["minx", "miny", "width", "height", "status", "label"]
    return [*box, *(PROB_PREFIX + visible(name) for name in classes), QUALITY]


def regions_frame(score_map: ScoreMap) -> pd.DataFrame:
    """One line per selected region: box in level-0 px, status, label, probabilities, quality."""
    import pandas as pd

    table = regions_table(score_map)
    columns = (
        table.minx,
        table.miny,
        table.width,
        table.height,
        table.status,
        table.label,
        *table.probabilities.T,
        table.quality,
    )
    return pd.DataFrame(dict(zip(regions_columns(score_map.classes), columns, strict=True)))


def points_frame(points: Points, score_map: ScoreMap) -> pd.DataFrame:
    """One line per point: the columns of ``<id>.points.csv``."""
    import pandas as pd

    kinds = np.array([*point_kinds(score_map), ""], object)
    return pd.DataFrame(
        {
            "x_px": points.x_px,
            "y_px": points.y_px,
            "x_um": points.x_px * score_map.slide_mpp[0],
            "y_um": points.y_px * score_map.slide_mpp[1],
            "class": kinds[points.kind],
            "score": points.score,
        }
    )
