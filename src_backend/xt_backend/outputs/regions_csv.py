"""``<id>.regions.csv``: one line per region, with WSInfer's names for the box and `prob_`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from xt_backend.outputs.regions_table import PROB_PREFIX, QUALITY, regions_table
from xt_backend.outputs.text import escape_cell, visible
from xt_backend.publishing import publish
from xt_backend.store.score_map import ScoreMap

__all__ = ["write_regions_csv"]

_ROWS_AT_ONCE = 4096


def write_regions_csv(path: Path, score_map: ScoreMap) -> None:
    """Publish the table of regions.

    Columns ``minx,miny,width,height,status,label,prob_<class>...,quality``: level-0 px in
    OpenSlide's frame, the status's word, the predicted class, as many digits as a float32 needs to
    come back the same, and what is doubtful about the picture. Regions without a score have empty
    label and probabilities.

    Args:
        path: Where it should go.
        score_map: What to write.

    Raises:
        OutputError: It cannot be written.
    """
    table = regions_table(score_map)
    labels = {label: escape_cell(label) for label in (*score_map.classes, "")}
    with (
        publish(path) as temp,
        open(temp, "w", encoding="utf-8", newline="", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["minx", "miny", "width", "height", "status", "label"]
            + [PROB_PREFIX + visible(name) for name in score_map.classes]
            + [QUALITY]
        )
        for first in range(0, len(score_map), _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            probabilities = table.probabilities[part]
            digits = np.where(np.isnan(probabilities), "", probabilities.astype(str))
            writer.writerows(
                zip(
                    table.minx[part].tolist(),
                    table.miny[part].tolist(),
                    table.width[part].tolist(),
                    table.height[part].tolist(),
                    table.status[part],
                    [labels[label] for label in table.label[part]],
                    *digits.T.tolist(),
                    table.quality[part],
                    strict=True,
                )
            )
