"""Folders as `score` leaves them, put together from made-up score maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from support.score_maps import make_score_map
from xt_backend.keys import RunFile, RunMeta, SlideStatus
from xt_backend.outputs import (
    SlideMask,
    SlideRow,
    point_kinds,
    write_mask,
    write_overlay,
    write_points_csv,
    write_run_json,
    write_slides_csv,
)
from xt_backend.store import MaskGrid, Points, ScoreMap

__all__ = ["failed", "task_map", "write_run"]


def task_map(task: str, **changes: Any) -> ScoreMap:
    """A result of a model of any task, on a slide of 5000 x 6000 px."""
    if task == "slide":
        changes = {"slide_logits": np.array([0.5, 2, -1], np.float32), **changes}
    if task == "detection":
        changes = {"run_meta": {RunMeta.N_POINTS: {"Tumour": 2, "Fat": 1}}, **changes}
    return make_score_map(task=task, **changes)


def write_run(
    folder: Path,
    score_maps: Sequence[ScoreMap],
    others: Sequence[SlideRow] = (),
    run: dict[str, Any] | None = None,
) -> Path:
    """Write the files of a finished run.

    Args:
        folder: Made if it is not there.
        score_maps: Of slides that are done.
        others: Further rows, behind those.
        run: What run.json says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, kinds = [], ()
    for number, score_map in enumerate(score_maps):
        row = SlideRow.from_score_map(score_map, number, seconds_total=2.0, cache="miss")
        rows.append(row)
        path = folder / score_map.slide_id
        found: SlideMask | Points | None = None
        if score_map.task == "dense":
            canvas = np.full(MaskGrid(score_map.lattice).shape, 2, np.uint8)
            write_mask(path.with_name(path.name + RunFile.MASK), canvas, score_map)
            found = SlideMask.of(canvas, score_map)
        if score_map.task == "detection":
            kinds = point_kinds(score_map)
            found = Points(
                np.array([1500.0, 2000, 2500]),
                np.array([2500.0, 3000, 3500]),
                np.array([0, 1, 0], np.int32),
                np.array([0.9, 0.8, 0.7], np.float32),
            )
            write_points_csv(path.with_name(path.name + RunFile.POINTS_CSV), found, score_map)
        thumbnail = np.full((600, 500, 3), 200, np.uint8)
        overlay = path.with_name(path.name + RunFile.OVERLAY_PNG)
        write_overlay(overlay, score_map, thumbnail, 10, 10, found)
        score_map.save(path.with_name(path.name + RunFile.SCORE_MAP))
    rows += [replace(row, row=len(rows) + n) for n, row in enumerate(others)]
    classes = score_maps[0].classes if score_maps else ()
    write_slides_csv(folder / RunFile.SLIDES_CSV, rows, classes, kinds)
    write_run_json(folder / RunFile.RUN_JSON, run or {"configuration": {"command": "score"}})
    return folder


def failed(name: str, reason: str) -> SlideRow:
    """The row of a slide that could not be scored."""
    return SlideRow(0, name, Path(name).stem, SlideStatus.FAILED, reason)
