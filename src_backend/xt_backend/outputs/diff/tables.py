"""``diff.csv`` and ``<id>.diff.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xt_backend.outputs.diff.comparison import SlideDiff
from xt_backend.outputs.regions_table import PROB_PREFIX, regions_table
from xt_backend.outputs.text import escape_cell
from xt_backend.publishing import publish

__all__ = ["write_regions_diff", "write_slides_diff"]


def write_slides_diff(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Publish the table of slides, a line for each of either run.

    Args:
        path: Where it should go.
        rows: Values by column; a slide need not have all.

    Raises:
        OutputError: It cannot be written.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    _write(path, columns, ([row.get(name) for name in columns] for row in rows))


def write_regions_diff(path: Path, diff: SlideDiff) -> None:
    """Publish the matched regions of a slide: place, both classes, and all probabilities.

    Boxes are those of the result with the smaller regions, level-0 px of its slide.

    Args:
        path: Where it should go.
        diff: With a matching.

    Raises:
        OutputError: It cannot be written.
    """
    matching = diff.matching
    if matching is None:
        return
    tables = regions_table(diff.a), regions_table(diff.b)
    rows = matching.rows_a, matching.rows_b
    box, of_box = (tables[0], rows[0]) if matching.a_is_finer else (tables[1], rows[1])
    columns = ["minx", "miny", "width", "height", "label_a", "label_b", "same"]
    for side, score_map in (("a", diff.a), ("b", diff.b)):
        columns += [f"{PROB_PREFIX}{name}_{side}" for name in score_map.classes]
    labels = [[t.label[row] for row in r.tolist()] for t, r in zip(tables, rows, strict=True)]
    digits = [t.probabilities[r].astype(str) for t, r in zip(tables, rows, strict=True)]
    lines = zip(
        *(side[of_box].tolist() for side in (box.minx, box.miny, box.width, box.height)),
        *labels,
        ["yes" if one == other else "no" for one, other in zip(*labels, strict=True)],
        *digits[0].T.tolist(),
        *digits[1].T.tolist(),
        strict=True,
    )
    _write(path, columns, lines)


def _write(path: Path, columns: Sequence[str], lines: Iterable[Iterable[Any]]) -> None:
    with publish(path) as temp, open(temp, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([escape_cell(name) for name in columns])
        writer.writerows([_cell(value) for value in line] for line in lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return escape_cell(value) if isinstance(value, str) else repr(value)
