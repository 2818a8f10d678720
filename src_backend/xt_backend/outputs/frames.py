"""The tables as pandas frames and plain values, for scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xt_backend.outputs.points import point_kinds
from xt_backend.outputs.regions_table import PROB_PREFIX, regions_table
from xt_backend.outputs.slides_csv import SlideRow, slides_csv_columns
from xt_backend.store.points import Points
from xt_backend.store.score_map import ScoreMap

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["points_frame", "regions_frame", "slide_values", "slides_frame"]


def slide_values(
    row: SlideRow, classes: Sequence[str], kinds: Sequence[str] = ()
) -> dict[str, Any]:
    """A row of slides.csv by column; None where there is no value or no finite one."""
    values: dict[str, Any] = {}
    for column in slides_csv_columns(classes, kinds):
        values[column] = getattr(row, column, None)
    for name in classes:
        values[f"prob_{name}"] = row.probabilities.get(name)
        values[f"fraction_{name}"] = row.fractions.get(name)
    for name in kinds:
        values[f"n_{name}"] = row.counts.get(name)
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
        columns=slides_csv_columns(classes, kinds),
    )


def regions_frame(score_map: ScoreMap) -> pd.DataFrame:
    """One line per selected region: box in level-0 px, status, label, probabilities."""
    import pandas as pd

    table = regions_table(score_map)
    frame = pd.DataFrame(
        {
            "minx": table.minx,
            "miny": table.miny,
            "width": table.width,
            "height": table.height,
            "status": table.status,
            "label": table.label,
        }
    )
    for index, name in enumerate(score_map.classes):
        frame[f"{PROB_PREFIX}{name}"] = table.probabilities[:, index]
    return frame


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
