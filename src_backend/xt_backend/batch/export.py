"""Files made again or anew from finished runs, without reading a slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from xt_backend.errors import InputNotFoundError, UsageError
from xt_backend.keys import RunFile
from xt_backend.outputs import write_geojson, write_regions_csv, write_regions_parquet
from xt_backend.store import ScoreMap

__all__ = ["EXPORTS", "ExportKind", "export_run"]

ExportKind: TypeAlias = Literal["parquet", "geojson", "wsinfer"]

EXPORTS: dict[str, tuple[str, Callable[[Path, ScoreMap], None]]] = {
    "parquet": (RunFile.PARQUET, write_regions_parquet),
    "geojson": (RunFile.GEOJSON, write_geojson),
    "wsinfer": (RunFile.REGIONS_CSV, write_regions_csv),
}
"""Kind -> (suffix behind the slide's id, writer)."""


def export_run(
    run_dir: Path,
    kind: str,
    out: Path | None = None,
    on_slide: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write one file per finished slide of a run.

    Args:
        run_dir: Folder that `score` wrote.
        kind: One of `EXPORTS`.
        out: Where to write; the run directory when None.
        on_slide: Told slides done and slides in all.

    Raises:
        InputNotFoundError: There is no such folder.
        UsageError: Unknown kind, or no finished slide in the folder.
        StoreError: A score map is damaged.
    """
    if kind not in EXPORTS:
        raise UsageError(f"Unknown export '{kind}'", f"Known are: {', '.join(sorted(EXPORTS))}")
    if not run_dir.is_dir():
        raise InputNotFoundError(f"There is no folder {run_dir}", "Name a folder that score wrote")
    maps = sorted(run_dir.glob(f"*{RunFile.SCORE_MAP}"))
    if not maps:
        raise UsageError(f"{run_dir} holds no finished slide", "Name a folder that score wrote")
    suffix, write = EXPORTS[kind]
    folder = run_dir if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, path in enumerate(maps, 1):
        target = folder / f"{path.name.removesuffix(RunFile.SCORE_MAP)}{suffix}"
        write(target, ScoreMap.load(path))
        written.append(target)
        on_slide(number, len(maps))
    return written
