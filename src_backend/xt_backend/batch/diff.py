"""Two finished runs side by side: model against model, scanner against scanner, then and now."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xt_backend.errors import OutputConflictError, OutputError, UsageError, XTError
from xt_backend.keys import DiffFile, RunFile, SlideStatus
from xt_backend.outputs import SlideRow, point_kinds
from xt_backend.outputs.diff import (
    SlideDiff,
    compare_maps,
    compare_masks,
    compare_points,
    write_diff_picture,
    write_regions_diff,
    write_slides_diff,
)
from xt_backend.store import make_folder, publish_bytes

from .diff_summary import DiffSummary
from .finished_run import FinishedRun
from .pairing import SlidePair, pair_slides

__all__ = ["RunsDiff", "diff_runs"]

_log = logging.getLogger(__name__)

COMPARED = "compared"
_FAILED, _ONLY_A, _ONLY_B = "failed", "only_a", "only_b"


@dataclass(frozen=True)
class RunsDiff:
    """What `diff_runs` found.

    Attributes:
        rows: Of diff.csv: values by column, for each slide of either run.
        summary: All slides together, as plain values.
        written: The files.
    """

    rows: tuple[dict[str, Any], ...]
    summary: dict[str, Any]
    written: tuple[Path, ...]

    @property
    def complete(self) -> bool:
        """Whether every slide of either run could be compared."""
        return all(row["status"] == COMPARED for row in self.rows)


def diff_runs(
    run_a: Path,
    run_b: Path,
    out: Path | None = None,
    on_slide: Callable[[int, int], None] = lambda done, total: None,
    *,
    pairs: Path | None = None,
    pictures: bool = True,
    distance_um: float = 8.0,
) -> RunsDiff:
    """Compare the results of two runs, slide by slide and region by region.

    A slide that only one run has, or that failed in one, gets a row that says so.

    Args:
        run_a: Folder that `score` wrote.
        run_b: Another one.
        out: Folder for diff.csv, diff.json and, of each slide, a table of regions and a picture;
            None writes nothing.
        on_slide: Told slides done and slides in all.
        pairs: CSV with the columns a and b, for slides whose names differ.
        pictures: False writes none.
        distance_um: So far apart two points may be that are taken for one; detection models only.

    Raises:
        InputNotFoundError: A folder or the table is not there.
        UsageError: A folder holds no run, the table names other slides, or no slide is in both.
        StoreError: slides.csv, run.json or local.json of a run is damaged.
        OutputError: The files cannot be written.
    """
    a, b = FinishedRun(run_a), FinishedRun(run_b)
    if not distance_um > 0:
        raise UsageError(f"a distance of {distance_um:g} um is none", "Give one above 0")
    paired = pair_slides(a, b, pairs)
    if not any(pair.a is not None and pair.b is not None for pair in paired):
        raise UsageError(
            "No slide is in both runs, by name or content",
            "Say with --pairs which slide of A belongs to which of B",
        )
    if out is not None:
        _check_folder(out)
        make_folder(out)
    rows: list[dict[str, Any]] = []
    written: list[Path] = []
    summary = DiffSummary(a.run, b.run)
    for number, pair in enumerate(paired, 1):
        row = _named(pair)
        if pair.a is not None and pair.b is not None and row["status"] == COMPARED:
            try:
                diff = _compare(a, b, pair.a, pair.b, distance_um)
                if out is not None:
                    written += _write_regions(out, pair.a.id, diff)
                if out is not None and pictures:
                    written.append(_write_picture(out, a, b, pair.a, pair.b, diff))
                row |= {"reason": "; ".join(diff.notes), **diff.values()}
                summary.add(diff)
            except OutputError:
                raise  # the other slides would meet the same
            except XTError as error:
                row |= {"status": _FAILED, "reason": str(error)}
            except Exception as error:  # one odd slide ends no comparison
                _log.error("%s cannot be compared", row["slide"], exc_info=error)
                reason = f"Unexpected {type(error).__name__}. Please report this with the log."
                row |= {"status": _FAILED, "reason": reason}
        rows.append(row)
        on_slide(number, len(paired))
    found = summary.values(rows)
    if out is not None:
        write_slides_diff(out / DiffFile.SLIDES, rows)
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
        publish_bytes(out / DiffFile.SUMMARY, f"{text}\n".encode("utf-8", "backslashreplace"))
        written += [out / DiffFile.SLIDES, out / DiffFile.SUMMARY]
    return RunsDiff(tuple(rows), found, tuple(written))


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputConflictError(f"{out} is a file", "Name a folder with --out")
    if (out / RunFile.RUN_JSON).exists():
        raise OutputConflictError(f"The folder {out} holds a run", "Name another with --out")


def _named(pair: SlidePair) -> dict[str, Any]:
    """The columns that every row has."""
    of_a, of_b = pair.a, pair.b
    named = of_a or of_b
    status, reason = COMPARED, ""
    if of_a is None or of_b is None:
        status, reason = (_ONLY_A, "not in run B") if of_b is None else (_ONLY_B, "not in run A")
    else:
        sides = (("A", of_a), ("B", of_b))
        failed = [(side, row) for side, row in sides if row.status == SlideStatus.FAILED]
        if failed:
            reasons = dict.fromkeys(row.reason for _, row in failed)
            runs = " and ".join(side for side, _ in failed)
            status, reason = _FAILED, f"failed in run {runs}: {' / '.join(reasons)}"
    return {
        "slide": "" if named is None else named.slide,
        "id_a": "" if of_a is None else of_a.id,
        "id_b": "" if of_b is None else of_b.id,
        "status": status,
        "reason": reason,
    }


def _compare(
    a: FinishedRun, b: FinishedRun, row_a: SlideRow, row_b: SlideRow, distance_um: float
) -> SlideDiff:
    diff = compare_maps(a.score_map(row_a), b.score_map(row_b))
    tasks = {diff.a.task, diff.b.task}
    if diff.matching is None or len(tasks) > 1:
        return diff
    if tasks == {"dense"}:
        return replace(diff, pixels=compare_masks(a.mask(row_a), b.mask(row_b)))
    if tasks == {"detection"}:
        points = compare_points(
            (a.points(row_a, diff.a), diff.a, point_kinds(diff.a)),
            (b.points(row_b, diff.b), diff.b, point_kinds(diff.b)),
            distance_um,
        )
        return replace(diff, points=points)
    return diff


def _write_regions(out: Path, slide_id: str, diff: SlideDiff) -> list[Path]:
    if diff.matching is None:
        return []
    path = out / f"{slide_id}{DiffFile.REGIONS}"
    write_regions_diff(path, diff)
    return [path]


def _write_picture(
    out: Path,
    a: FinishedRun,
    b: FinishedRun,
    row_a: SlideRow,
    row_b: SlideRow,
    diff: SlideDiff,
) -> Path:
    path = out / f"{row_a.id}{DiffFile.PICTURE}"
    seen_a, seen_b = a.thumbnail(row_a, diff.a), b.thumbnail(row_b, diff.b)
    write_diff_picture(path, diff, seen_a, seen_b)
    return path
