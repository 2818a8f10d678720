"""What tables of features say of each row, beside the features themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RegionStatus
from xt_backend.outputs.features.table import FeatureTable
from xt_backend.outputs.regions_table import PROB_PREFIX
from xt_backend.outputs.text import visible

__all__ = ["row_columns"]


def row_columns(table: FeatureTable) -> dict[str, npt.NDArray[Any] | list[str | None]]:
    """Columns by name, one value a row of `FeatureTable.matrix`.

    Of regions col and row in the lattice, the box in level-0 px, status, tissue share and, where
    there are predictions, label and ``prob_<class>``. Of a whole slide only its regions' number.
    """
    rows = table.rows
    if table.level == "slide":
        return {"n_regions": np.full(len(table.matrix), len(rows), np.int64)}
    x0, y0, x1, y1 = table.boxes.T
    columns: dict[str, npt.NDArray[Any] | list[str | None]] = {
        "col": np.ascontiguousarray(table.cells[rows, 0]),
        "row": np.ascontiguousarray(table.cells[rows, 1]),
        "minx": np.ascontiguousarray(x0),
        "miny": np.ascontiguousarray(y0),
        "width": x1 - x0,
        "height": y1 - y0,
        "status": [RegionStatus(status).label for status in table.status[rows].tolist()],
    }
    if table.tissue is not None:
        columns["tissue"] = table.tissue[rows]
    if (found := table.score_map) is not None:
        names = [*map(visible, found.classes), None]
        columns["label"] = [names[label] for label in found.labels()[rows].tolist()]
        for name, values in zip(found.classes, found.probabilities[rows].T, strict=True):
            columns[PROB_PREFIX + visible(name)] = np.ascontiguousarray(values)
    return columns
