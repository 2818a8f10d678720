"""A finished run read to its end: is every result there, and whole?"""

from __future__ import annotations

import filecmp
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from xt_backend.errors import InputNotFoundError, StoreError, UsageError, XTError
from xt_backend.keys import RunFile, SlideStatus
from xt_backend.model import file_sha256
from xt_backend.outputs import (
    SlideRow,
    point_kinds,
    read_json,
    read_mask,
    read_points_csv,
    read_slides_csv,
    write_geojson,
    write_regions_csv,
)
from xt_backend.store import ScoreMap

from .dense import dense_files
from .ledger import Ledger

__all__ = ["Verified", "verify_run"]

_AGAIN = "; give the command that made it again"


@dataclass(frozen=True)
class Verified:
    """What `verify_run` found.

    Attributes:
        n_slides: Slides with a result, by slides.csv.
        problems: By slide id, or name of a file of the run: what is wrong, as a sentence.
    """

    n_slides: int
    problems: dict[str, str]


def verify_run(
    run_dir: Path, on_slide: Callable[[int, int], None] = lambda done, total: None
) -> Verified:
    """Read the results of all slides. Nothing is changed.

    Score maps, masks and points are read whole; tables and outlines are compared with the map that
    they were made from, and files of features with their digests in the ledger.

    Args:
        run_dir: Folder that `score` or `features` wrote.
        on_slide: Told slides done and slides in all.

    Raises:
        InputNotFoundError: There is no such folder.
        UsageError: It holds no run.
        StoreError: slides.csv or run.json is damaged.
    """
    if not run_dir.is_dir():
        raise InputNotFoundError(f"There is no folder {run_dir}", "Name a folder that score wrote")
    table, run_json = run_dir / RunFile.SLIDES_CSV, run_dir / RunFile.RUN_JSON
    for path in (table, run_json):
        if not path.is_file():
            raise UsageError(
                f"{run_dir} holds no {path.name}",
                "Make it from the slides' files with napari-xt summarise",
            )
    command = read_json(run_json).get("configuration", {}).get("command")
    check = _features if command == "features" else _scored
    rows = [row for row in read_slides_csv(table)[0] if row.status != SlideStatus.FAILED]
    problems = {}
    for number, row in enumerate(rows, 1):
        try:
            if problem := check(run_dir, row):
                problems[row.id] = problem + _AGAIN
        except XTError as error:
            problems[row.id] = str(error)
        except OSError as error:
            problems[row.id] = f"a file cannot be read: {error.strerror or error}{_AGAIN}"
        on_slide(number, len(rows))
    return Verified(len(rows), problems)


def _features(run_dir: Path, row: SlideRow) -> str:
    """What is wrong with the files of features of a slide; empty for nothing."""
    known = _known_files(run_dir, row)
    return _changed(run_dir, known) if known else "the ledger does not know what its files hold"


def _known_files(run_dir: Path, row: SlideRow) -> Mapping[str, str]:
    """sha256 by file; nothing where a version without digests wrote them."""
    entry = Ledger(run_dir / RunFile.LEDGER).read(row.id)
    return {} if entry is None else entry.outcome.files


def _changed(run_dir: Path, files: Mapping[str, str]) -> str:
    for name, digest in files.items():
        path = run_dir / name
        if not path.is_file():
            return f"{name} is gone"
        if file_sha256(path) != digest:
            return f"{name} is not as it was written"
    return ""


def _scored(run_dir: Path, row: SlideRow) -> str:
    """What is wrong with the files of a slide that was scored; empty for nothing."""

    def path(suffix: str) -> Path:
        return run_dir / f"{row.id}{suffix}"

    score_map = ScoreMap.load(path(RunFile.SCORE_MAP))
    if len(score_map) != row.n_regions:
        return f"slides.csv tells of {row.n_regions} regions, and its map of {len(score_map)}"
    for suffix in (*RunFile.of_every_result(), *dense_files(score_map.task)):
        if not path(suffix).is_file():
            return f"{path(suffix).name} is gone"
    if changed := _changed(run_dir, _known_files(run_dir, row)):
        return changed
    if RunFile.MASK in dense_files(score_map.task):
        read_mask(path(RunFile.MASK))
    if RunFile.POINTS_CSV in dense_files(score_map.task):
        read_points_csv(path(RunFile.POINTS_CSV), point_kinds(score_map))
    with tempfile.TemporaryDirectory(prefix="xt-verify-") as folder:
        again = Path(folder, "again")
        for suffix, write in (
            (RunFile.REGIONS_CSV, write_regions_csv),
            (RunFile.GEOJSON, write_geojson),
        ):
            write(again, score_map)
            if not filecmp.cmp(again, path(suffix), shallow=False):
                return f"{path(suffix).name} is not what its map says; remove it"
    try:
        with Image.open(path(RunFile.OVERLAY_PNG)) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise StoreError(
            f"{path(RunFile.OVERLAY_PNG).name} is damaged",
            "Remove it, and give the command that made it again",
        ) from error
    return ""
