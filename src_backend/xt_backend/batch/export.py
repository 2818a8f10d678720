"""Files made again or anew from finished runs, without reading a slide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from xt_backend.errors import InputNotFoundError, StoreError, UsageError
from xt_backend.keys import RunFile, SlideStatus
from xt_backend.outputs import (
    check_parquet,
    read_slides_csv,
    write_geojson,
    write_regions_csv,
    write_regions_parquet,
)
from xt_backend.store import ScoreMap, make_folder

__all__ = ["EXPORTS", "ExportKind", "Exported", "export_run"]

ExportKind: TypeAlias = Literal["parquet", "geojson", "wsinfer"]

EXPORTS: dict[str, tuple[str, Callable[[Path, ScoreMap], None]]] = {
    "parquet": (RunFile.PARQUET, write_regions_parquet),
    "geojson": (RunFile.GEOJSON, write_geojson),
    "wsinfer": (RunFile.REGIONS_CSV, write_regions_csv),
}
"""Kind -> (suffix behind the slide's id, writer)."""


@dataclass(frozen=True)
class Exported:
    """What `export_run` did.

    Attributes:
        written: The files, in the order of the slides.
        failed: By slide id: why there is no file.
    """

    written: tuple[Path, ...]
    failed: dict[str, str]


def export_run(
    run_dir: Path,
    kind: str,
    out: Path | None = None,
    on_slide: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write one file per slide that slides.csv calls done or empty.

    A score map that is missing or damaged is told, and the others are exported.

    Args:
        run_dir: Folder that `score` wrote.
        kind: One of `EXPORTS`.
        out: Where to write; the run directory when None.
        on_slide: Told slides done and slides in all.

    Raises:
        InputNotFoundError: There is no such folder.
        UsageError: Unknown kind, or no finished slide in the folder.
        StoreError: slides.csv is damaged.
        OutputError: The files cannot be written.
    """
    if kind not in EXPORTS:
        raise UsageError(f"Unknown export '{kind}'", f"Known are: {', '.join(sorted(EXPORTS))}")
    if kind == "parquet":
        check_parquet()
    if not run_dir.is_dir():
        raise InputNotFoundError(f"There is no folder {run_dir}", "Name a folder that score wrote")
    slide_ids = _finished_ids(run_dir)
    if not slide_ids:
        raise UsageError(f"{run_dir} holds no finished slide", "Name a folder that score wrote")
    if any(run_dir.glob(f"*{RunFile.FEATURES}")):
        raise UsageError(
            f"{run_dir} was written by `features`, which predicts nothing",
            "Name a folder that score wrote; the files of features are read as they are",
        )
    suffix, write = EXPORTS[kind]
    folder = run_dir if out is None else out
    make_folder(folder)
    written: list[Path] = []
    failed: dict[str, str] = {}
    for number, slide_id in enumerate(slide_ids, 1):
        target = folder / f"{slide_id}{suffix}"
        try:
            write(target, ScoreMap.load(run_dir / f"{slide_id}{RunFile.SCORE_MAP}"))
            written.append(target)
        except StoreError as error:
            failed[slide_id] = str(error)
        on_slide(number, len(slide_ids))
    return Exported(tuple(written), failed)


def _finished_ids(run_dir: Path) -> list[str]:
    """By slides.csv; by the files where a run was killed before its first table."""
    table = run_dir / RunFile.SLIDES_CSV
    if table.is_file():
        rows, _ = read_slides_csv(table)
        return [row.id for row in rows if row.status != SlideStatus.FAILED]
    suffix = RunFile.SCORE_MAP
    return sorted(path.name.removesuffix(suffix) for path in run_dir.glob(f"*{suffix}"))
