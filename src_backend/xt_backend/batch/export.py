"""Files made again or anew from finished runs, without reading a slide or encoding a region."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt_backend.config import ExportOptions
from xt_backend.errors import (
    DeviceError,
    InputNotFoundError,
    ModelError,
    OutputError,
    SlideChangedError,
    UsageError,
    XTError,
)
from xt_backend.keys import RunFile, RunH5, SlideStatus
from xt_backend.outputs import (
    LAYOUTS,
    PREDICTION_FORMATS,
    Layout,
    Level,
    PredictionFormat,
    PredictionOptions,
    SlideRow,
    When,
    read_json,
    read_slides_csv,
    write_features,
)
from xt_backend.slides import open_slide
from xt_backend.store import ScoreMap, make_folder

from .export_folder import claim_folder
from .exporter import Exporter
from .stored import RunFeatures

__all__ = ["EXPORTS", "Exported", "export_run"]

_log = logging.getLogger(__name__)

_REPORT = "report"
EXPORTS = tuple(dict.fromkeys((*PREDICTION_FORMATS, *LAYOUTS, _REPORT)))
"""What can be asked for."""


@dataclass(frozen=True)
class Exported:
    """What `export_run` did.

    Attributes:
        folder: Where they are.
        written: The files, in the order of the slides.
        failed: By slide id: why there is no file.
    """

    folder: Path
    written: tuple[Path, ...]
    failed: dict[str, str]


def export_run(
    run_dir: Path,
    kind: str,
    out: Path | None = None,
    on_slide: Callable[[int, int], None] = lambda done, total: None,
    options: ExportOptions | None = None,
) -> Exported:
    """Write the files of every slide that slides.csv calls done or empty.

    A slide whose score map or features are missing or damaged is told, and the others are
    exported.

    Args:
        run_dir: Folder that `score` or `features` wrote.
        kind: One of `EXPORTS`.
        out: Where to write; None for the run directory, or for formats whose files have no names
            of their own, a folder in it.
        on_slide: Told slides done and slides in all.
        options: What else is asked for.

    Raises:
        InputNotFoundError: There is no such folder.
        UsageError: Unknown kind, options that do not fit it, or no finished slide in the folder.
        OutputConflictError: `out` holds files that could not be told from those.
        StoreError: slides.csv, run.json or local.json is damaged.
        OutputError: The files cannot be written.
    """
    options = ExportOptions() if options is None else options
    if kind not in EXPORTS:
        raise UsageError(f"Unknown export '{kind}'", f"Known are: {', '.join(sorted(EXPORTS))}")
    if not run_dir.is_dir():
        raise InputNotFoundError(f"There is no folder {run_dir}", "Name a folder that score wrote")
    rows = _finished(run_dir)
    if not rows and kind != _REPORT:
        raise UsageError(f"{run_dir} holds no finished slide", "Name a folder that score wrote")
    exporter = _exporter(run_dir, kind, options)
    folder = run_dir / exporter.default_folder if out is None else out
    if exporter.default_folder:
        claim_folder(folder, exporter.default_folder, _known(run_dir / RunFile.RUN_JSON))
    make_folder(folder)
    written: list[Path] = []
    failed: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        try:
            written += exporter.write(folder, row)
        except (DeviceError, ModelError, OutputError):
            raise  # the other slides would meet the same
        except XTError as error:
            failed[row.id] = str(error)
        except Exception as error:  # one odd slide ends no export
            _log.error("%s cannot be exported", row.id, exc_info=error)
            failed[row.id] = (
                f"Unexpected {type(error).__name__}: {error}. Please report this with the log."
            )
        on_slide(number, len(rows))
    written += exporter.finish(folder)
    return Exported(folder, tuple(written), failed)


class _Predictions(Exporter):
    def __init__(
        self, run_dir: Path, made: PredictionFormat, options: PredictionOptions, slides: Any
    ) -> None:
        made.check(options)
        self._run_dir = run_dir
        self._made = made
        self._options = options
        self._slides = slides if isinstance(slides, dict) else {}
        self._last: ScoreMap | None = None
        self.default_folder = made.name if made.own_folder else ""

    def write(self, folder: Path, row: SlideRow) -> tuple[Path, ...]:
        path = folder / self._made.file(row.id, self._options)
        make_folder(path.parent)
        score_map = _score_map(self._run_dir, row)
        named = self._slides.get(row.id)
        slide = Path(named) if self._made.needs_slide and named else None
        if slide is not None and slide.exists():
            _check_same(slide, score_map)
        self._made.write(path, score_map, self._options, slide)
        self._last = score_map
        return (path,)

    def finish(self, folder: Path) -> tuple[Path, ...]:
        if self._last is None:
            return ()
        return self._made.finish(folder, self._last, self._options)


class _Features(Exporter):
    def __init__(
        self,
        run_dir: Path,
        layout: Layout,
        stored: RunFeatures,
        level: Level,
        when: When,
        *,
        scored: bool,
    ) -> None:
        layout.check(level)
        self._run_dir = run_dir
        self._layout = layout
        self._stored = stored
        self._level: Level = level
        self._when: When = when
        self._scored = scored
        kind = "-context" * (when == "after") + "-slide" * (level == "slide")
        self.default_folder = f"{layout.name}{kind}" if layout.own_folder else ""

    def write(self, folder: Path, row: SlideRow) -> tuple[Path, ...]:
        if self._scored:
            found = _score_map(self._run_dir, row)
            table = self._stored.scored(found, self._level, self._when)
        else:
            table = self._stored.extracted(row, self._level)
        return write_features(self._layout, folder, table)


def _exporter(run_dir: Path, kind: str, options: ExportOptions) -> Exporter:
    run = _known(run_dir / RunFile.RUN_JSON)
    local = _known(run_dir / RunFile.LOCAL_JSON)
    extracted = run.get("configuration", {}).get("command") == "features"
    asked = options.features is not None or options.level is not None
    if kind in LAYOUTS and (asked or extracted or kind not in PREDICTION_FORMATS):
        if options.merged or options.gzip:
            raise UsageError("--merged and --gzip are for predictions as geojson", "Leave them out")
        if extracted:
            _check_extracted(run_dir, run, options)
        stored = RunFeatures(run_dir, local, options.cache, options.model)
        if not extracted:
            stored.cache  # noqa: B018  a run that kept nothing is told once, not for every slide
        level: Level = options.level or "region"
        when: When = options.features or "before"
        return _Features(run_dir, LAYOUTS[kind], stored, level, when, scored=not extracted)
    if asked:
        raise UsageError(
            f"--features and --level are for features, which {kind} does not hold",
            f"Use one of: {', '.join(LAYOUTS)}",
        )
    if extracted:
        raise UsageError(
            f"{run_dir} was written by `features`, which predicts nothing",
            f"Name a folder that score wrote, or use one of: {', '.join(LAYOUTS)}",
        )
    if kind == _REPORT:
        from .reporting import Reporter

        return Reporter(run_dir, run, local, options)
    what = PredictionOptions(options.merged, options.gzip, run)
    return _Predictions(run_dir, PREDICTION_FORMATS[kind], what, local.get("slides"))


def _check_extracted(run_dir: Path, run: dict[str, Any], options: ExportOptions) -> None:
    if options.features == "after":
        raise UsageError(
            f"{run_dir} was written by `features`, which has no context encoder",
            "Name a folder that score wrote",
        )
    chosen = run["configuration"].get("options", {})
    if chosen.get("layout", "xt") != "xt" or chosen.get("level", "region") != "region":
        raise UsageError(
            f"{run_dir} was not written in layout xt with a row a region, from which others are "
            "made",
            "Run `features` again with the layout that you want and another --out: what is in the "
            "cache is not encoded again",
        )


def _known(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _score_map(run_dir: Path, row: SlideRow) -> ScoreMap:
    return ScoreMap.load(run_dir / f"{row.id}{RunFile.SCORE_MAP}")


def _check_same(slide: Path, score_map: ScoreMap) -> None:
    """Refuse another slide that lies where the scored one was."""
    known = score_map.run_meta.get(RunH5.META_SLIDE_IDENTITY)
    with open_slide(slide) as found:
        if known is not None and found.identity() != known:
            raise SlideChangedError(
                f"The slide of {score_map.slide_id} is not the one that was scored",
                "Put that one back, or score it again",
            )


def _finished(run_dir: Path) -> list[SlideRow]:
    """By slides.csv; by the files where a run was killed before its first table."""
    table = run_dir / RunFile.SLIDES_CSV
    if table.is_file():
        rows, _ = read_slides_csv(table)
        return [row for row in rows if row.status != SlideStatus.FAILED]
    suffix = RunFile.SCORE_MAP
    ids = sorted(path.name.removesuffix(suffix) for path in run_dir.glob(f"*{suffix}"))
    return [SlideRow(number, name, name, SlideStatus.DONE) for number, name in enumerate(ids)]
