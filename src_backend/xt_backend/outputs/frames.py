"""The tables as pandas frames and plain values, for scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xt_backend.outputs.regions_table import PROB_PREFIX, regions_table
from xt_backend.outputs.slides_csv import SlideRow, slides_csv_columns
from xt_backend.store.score_map import ScoreMap

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["regions_frame", "slide_values", "slides_frame"]


def slide_values(row: SlideRow, classes: Sequence[str]) -> dict[str, Any]:
    """A row of slides.csv by column; None where there is no value or no finite one."""
    values: dict[str, Any] = {}
    for column in slides_csv_columns(classes):
        values[column] = getattr(row, column, None)
    for name in classes:
        values[f"prob_{name}"] = row.probabilities.get(name)
        values[f"fraction_{name}"] = row.fractions.get(name)
    values["status"] = str(row.status)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def slides_frame(rows: Sequence[SlideRow], classes: Sequence[str]) -> pd.DataFrame:
    """One line per input, with the columns of slides.csv."""
    import pandas as pd

    return pd.DataFrame(
        [slide_values(row, classes) for row in rows], columns=slides_csv_columns(classes)
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
