"""One slide of a batch: score it, write its files, say how it went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from xt_backend.config import CommonOptions, ScoreOptions
from xt_backend.engine import Engine, Event, RunFailed, RunFinished, RunSpec, is_out_of_memory
from xt_backend.errors import OutputError, XTError
from xt_backend.keys import Encoding, RunFile, RunH5, SlideStatus
from xt_backend.outputs import (
    SlideRow,
    safe_ids,
    visible,
    without_folders,
    write_geojson,
    write_overlay,
    write_regions_csv,
    write_regions_parquet,
)
from xt_backend.slides import Thumbnail, open_slide
from xt_backend.store import Points, ScoreMap

from .dense import DenseResult
from .folder import RunFolder
from .inputs import InputRow

__all__ = [
    "Interrupted",
    "Outcome",
    "Task",
    "attempt",
    "failed_row",
    "name_tasks",
    "not_reached",
    "run_task",
]

_log = logging.getLogger(__name__)

OptionsType = TypeVar("OptionsType", bound=CommonOptions)


class Interrupted(Exception):
    """The user or the system asked to stop; not an error of the run."""


@dataclass(frozen=True)
class Task:
    """A row of the inputs with the identifier of its outputs.

    Attributes:
        slide_id: Unique in the run; the stem of its files.
    """

    source: InputRow
    slide_id: str

    @property
    def name(self) -> str:
        """File name, the only thing of the path that outputs may show."""
        return self.source.name

    def own_options(self, options: OptionsType) -> OptionsType:
        """The batch's options with what the manifest says of this slide."""
        own = {"slide_mpp": self.source.slide_mpp, "roi": self.source.roi}
        return options.model_copy(update={k: v for k, v in own.items() if v is not None})

    def spec(self, model: str, options: ScoreOptions) -> RunSpec:
        """What the engine is asked to do for this slide."""
        values = self.own_options(options).model_dump()
        return RunSpec(**values, slide=self.source.path, model=model, slide_id=self.slide_id)


def name_tasks(rows: Sequence[InputRow]) -> tuple[Task, ...]:
    """The tasks of some inputs, each with an identifier of its own."""
    ids = safe_ids([row.name for row in rows])
    return tuple(Task(row, slide_id) for row, slide_id in zip(rows, ids, strict=True))


@dataclass(frozen=True)
class Outcome:
    """How a task went.

    Attributes:
        row: For slides.csv.
        score_map: The result, where there is one.
        seen_nan: Some region has no number though it was encoded.
        problems: What was wrong with the region store, as sentences.
        points: Of a detection model.
    """

    row: SlideRow
    score_map: ScoreMap | None = None
    seen_nan: bool = False
    problems: tuple[str, ...] = ()
    points: Points | None = None


def attempt(task: Task, folder: RunFolder | None, work: Callable[[], Outcome]) -> Outcome:
    """Do the work of a task; whatever is wrong with the slide ends in a failed row.

    A failed slide keeps no files of an earlier run, which would contradict its row.

    Raises:
        Interrupted: As `work` does.
        OutputError: The output cannot be written; the batch cannot go on.
    """
    try:
        outcome = Outcome(failed_row(task, task.source.problem)) if task.source.problem else work()
    except (Interrupted, OutputError):
        raise
    except XTError as error:
        outcome = Outcome(failed_row(task, str(error)))
    except Exception as error:
        if is_out_of_memory(error):
            reason = "The machine ran out of memory. Close other programs, or use --roi."
            outcome = Outcome(failed_row(task, reason))
        else:
            outcome = Outcome(_unexpected(task, error))
    if folder is not None and outcome.row.status == SlideStatus.FAILED:
        folder.remove(task.slide_id)
    return outcome


def _unexpected(task: Task, error: Exception) -> SlideRow:
    _log.error("%s failed", visible(task.name), exc_info=error)
    return failed_row(
        task, f"Unexpected {type(error).__name__}: {error}. Please report this with the log."
    )


def run_task(
    task: Task,
    model: str,
    options: ScoreOptions,
    folder: RunFolder | None,
    engine: Engine,
    on_event: Callable[[Event], None] = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Score a slide; write its files into `folder` when there is one.

    Idempotent: a slide that is finished in `folder` under the same configuration is taken from
    there. Whatever is wrong with the slide ends in a failed row.

    Raises:
        Interrupted: `cancelled` said so before the end.
        OutputError: The output cannot be written; the batch cannot go on.
    """

    def work() -> Outcome:
        return _score(task, model, options, folder, engine, on_event, cancelled)

    return attempt(task, folder, work)


def _score(
    task: Task,
    model: str,
    options: ScoreOptions,
    folder: RunFolder | None,
    engine: Engine,
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool],
) -> Outcome:
    stamp: dict[str, str] = {}
    if folder is not None:
        # The manifest's own pixel size and ROI count: a corrected row is scored again.
        configuration = folder.digest(task.own_options(options))
        with open_slide(task.source.path) as slide:
            identity = slide.identity()
        found = folder.finished(task.slide_id, configuration, identity)
        if found is not None:
            return Outcome(_row(task, found, {}, 0, Encoding.HIT), found, _has_nan(found))
        stamp = {"configuration": configuration, RunH5.META_SLIDE_IDENTITY: identity}
    with DenseResult(None if folder is None else folder.path) as dense:
        last: Event | None = None
        seen: list[Thumbnail] = []
        for event in engine.run(task.spec(model, options), cancelled, seen.append):
            dense.take(event)
            on_event(event)
            last = event
        return _finish(task, last, stamp, options, folder, dense, seen)


def _finish(
    task: Task,
    last: Event | None,
    stamp: dict[str, str],
    options: ScoreOptions,
    folder: RunFolder | None,
    dense: DenseResult,
    seen: Sequence[Thumbnail],
) -> Outcome:
    """From the last event of a run to the outcome; writes the files."""
    if isinstance(last, RunFailed):
        raise last.error
    if not isinstance(last, RunFinished):
        raise RuntimeError(f"a run ended with {type(last).__name__}")
    if last.cancelled:
        raise Interrupted
    score_map = dense.note(last.score_map)
    if folder is not None:
        score_map = replace(score_map, run_meta={**score_map.run_meta, **stamp})
        _write(task, score_map, options, folder, dense, seen[-1])
    row = _row(task, score_map, last.seconds, last.encoded_regions, last.cache)
    return Outcome(row, score_map, _has_nan(score_map), last.problems, last.points)


def _write(
    task: Task,
    score_map: ScoreMap,
    options: ScoreOptions,
    folder: RunFolder,
    dense: DenseResult,
    thumbnail: Thumbnail,
) -> None:
    """Write all files of a slide; the score map last, since it says that they are there."""

    def path(suffix: str) -> Path:
        return folder.file(task.slide_id, suffix)

    write_regions_csv(path(RunFile.REGIONS_CSV), score_map)
    write_geojson(path(RunFile.GEOJSON), score_map)
    write_overlay(
        path(RunFile.OVERLAY_PNG), score_map, thumbnail.rgb, thumbnail.scale_x, thumbnail.scale_y
    )
    if "parquet" in options.layouts:
        write_regions_parquet(path(RunFile.PARQUET), score_map)
    dense.write(path, score_map)
    score_map.save(path(RunFile.SCORE_MAP))


def failed_row(task: Task, reason: str) -> SlideRow:
    """The row of a slide that could not be worked on; no folder is named in it."""
    return SlideRow(
        row=task.source.row,
        slide=task.name,
        id=task.slide_id,
        status=SlideStatus.FAILED,
        reason=without_folders(reason, [task.source.path]),
    )


def not_reached(task: Task) -> SlideRow:
    """The row of a slide that was not done before the batch was interrupted."""
    return failed_row(
        task,
        "Interrupted before this slide was done. Run the same command again to go on.",
    )


def _row(
    task: Task, score_map: ScoreMap, seconds: dict[str, float], encoded: int, cache: str
) -> SlideRow:
    return SlideRow.from_score_map(
        score_map,
        task.source.row,
        reason=_warning(score_map) if len(score_map) else _empty_reason(score_map),
        seconds_read=seconds.get("read", 0.0),
        seconds_encode=seconds.get("encode", 0.0),
        seconds_context=seconds.get("context", 0.0),
        seconds_total=seconds.get("total", 0.0),
        encoded_regions=encoded,
        cache=str(cache),
    )


def _empty_reason(score_map: ScoreMap) -> str:
    notes = [str(note) for note in score_map.run_meta.get("notes", ())]
    return "; ".join(notes) or "no tissue was found"


def _warning(score_map: ScoreMap) -> str:
    notes = []
    if score_map.n_failed:
        notes.append(f"{score_map.n_failed} regions could not be read")
    if score_map.n_nan:
        notes.append(f"{score_map.n_nan} regions have no number (NaN)")
    return "; ".join(notes)


def _has_nan(score_map: ScoreMap) -> bool:
    return score_map.n_nan > 0
