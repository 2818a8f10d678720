"""One slide of a batch: score it, write its files, say how it went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from xt_backend.config import CommonOptions, ScoreOptions
from xt_backend.engine import (
    Engine,
    Event,
    Overview,
    RunFailed,
    RunFinished,
    RunSpec,
    Stages,
    is_out_of_memory,
)
from xt_backend.errors import OutputError, XTError
from xt_backend.keys import Encoding, RegionStatus, RunFile, RunH5, RunMeta, SlideStatus, Stopped
from xt_backend.outputs import (
    SlideRow,
    safe_ids,
    visible,
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
from .rows import failed_row, known_facts, scored_row

__all__ = [
    "Interrupted",
    "Outcome",
    "Task",
    "attempt",
    "finished_before",
    "name_tasks",
    "run_task",
]

_log = logging.getLogger(__name__)

OptionsType = TypeVar("OptionsType", bound=CommonOptions)


class Interrupted(Exception):
    """The user or the system asked to stop; not an error of the run.

    Args:
        how: What that means for the slide.
    """

    def __init__(self, how: Stopped = Stopped.INTERRUPTED) -> None:
        super().__init__(how)
        self.how = how


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
        reader: Who decoded the slide's tiles, and why; empty where none were read.
        encoder: How the region encoder computed, as plain data; empty where it had nothing to do.
        seconds: By stage, see `STAGES`.
        screening: What was left out, see `ScreeningMeta`; empty where nothing was screened.
        kept: An earlier call made it; what run.json said of it stays.
    """

    row: SlideRow
    score_map: ScoreMap | None = None
    seen_nan: bool = False
    problems: tuple[str, ...] = ()
    points: Points | None = None
    reader: str = ""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    screening: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False


def attempt(
    task: Task,
    options: CommonOptions,
    folder: RunFolder | None,
    work: Callable[[], Outcome],
    files: Sequence[Path] = (),
) -> Outcome:
    """Do the work of a task; whatever is wrong with the slide ends in a failed row.

    A failed slide keeps no files of an earlier run, which would contradict its row.

    Args:
        task: The slide.
        options: Of the batch.
        folder: Run directory; None keeps results in memory only.
        work: What is to be done.
        files: Beside the slide, what is read; their folders are kept out of the row.

    Raises:
        Interrupted: As `work` does.
        OutputError: The output cannot be written; the batch cannot go on.
    """
    outcome: Outcome | None = None
    reason = task.source.problem
    if not reason:
        try:
            outcome = work()
        except (Interrupted, OutputError):
            raise
        except XTError as error:
            reason = str(error)
        except Exception as error:
            if is_out_of_memory(error):
                reason = "The machine ran out of memory. Close other programs, or use --roi."
            else:
                reason = _unexpected(task, error)
    if outcome is None:
        facts = known_facts(task, options)
        outcome = Outcome(failed_row(task, reason, facts, [*files, *options.files()]))
    if folder is not None and outcome.row.status == SlideStatus.FAILED:
        folder.remove(task.slide_id)
    return outcome


def _unexpected(task: Task, error: Exception) -> str:
    _log.error("%s failed", visible(task.name), exc_info=error)
    return f"Unexpected {type(error).__name__}: {error}. Please report this with the log."


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

    return attempt(task, options, folder, work, [Path(model)])


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
        stamp = _stamp(task, options, folder)
        if (kept := _kept(task, options, folder, stamp)) is not None:
            return kept
    if cancelled():
        raise Interrupted(Stopped.NOT_STARTED)
    with DenseResult(None if folder is None else folder.path) as dense:
        last: Event | None = None
        seen: list[Overview] = []
        for event in engine.run(task.spec(model, options), cancelled, seen.append):
            dense.take(event)
            on_event(event)
            last = event
        return _finish(task, last, stamp, options, folder, dense, seen)


def finished_before(task: Task, options: ScoreOptions, folder: RunFolder | None) -> Outcome | None:
    """The outcome of a slide that an earlier call finished, else None; nothing is computed.

    Raises:
        OutputError: A file that is now asked for cannot be written.
    """
    if folder is None or task.source.problem:
        return None
    try:
        return _kept(task, options, folder, _stamp(task, options, folder))
    except OutputError:
        raise
    except Exception:
        # Whatever is wrong with the slide is told when its turn comes.
        _log.debug("nothing is known of a slide", exc_info=True)
        return None


def _stamp(task: Task, options: ScoreOptions, folder: RunFolder) -> dict[str, str]:
    """What tells a slide's result from that of other options or of another slide."""
    # The manifest's own pixel size and ROI count: a corrected row is scored again.
    configuration = folder.digest(task.own_options(options))
    with open_slide(task.source.path) as slide:
        return {"configuration": configuration, RunH5.META_SLIDE_IDENTITY: slide.identity()}


def _kept(
    task: Task, options: ScoreOptions, folder: RunFolder, stamp: Mapping[str, str]
) -> Outcome | None:
    found = folder.finished(task.slide_id, stamp["configuration"], stamp[RunH5.META_SLIDE_IDENTITY])
    if found is None or not _allowed(found, options):
        return None
    parquet = folder.file(task.slide_id, RunFile.PARQUET)
    if "parquet" in options.layouts and not parquet.is_file():
        write_regions_parquet(parquet, found)
    return Outcome(
        scored_row(task, found, {}, 0, Encoding.HIT),
        found,
        found.n_nan > 0,
        screening=found.run_meta.get(RunMeta.SCREENING) or {},
        kept=True,
    )


def _allowed(score_map: ScoreMap, options: ScoreOptions) -> bool:
    """The limits, which may be others now, do not refuse a result."""
    n_failed, counts = score_map.n_failed, score_map.status_counts()
    n = len(score_map) - counts[RegionStatus.SCREENED_OUT]
    share = n_failed / n if n else 0.0
    n_px = score_map.width_px * score_map.height_px
    return share <= options.max_failed_fraction and n_px <= options.max_pixels


def _finish(
    task: Task,
    last: Event | None,
    stamp: dict[str, str],
    options: ScoreOptions,
    folder: RunFolder | None,
    dense: DenseResult,
    seen: Sequence[Overview],
) -> Outcome:
    """From the last event of a run to the outcome; writes the files."""
    if isinstance(last, RunFailed):
        raise last.error
    if not isinstance(last, RunFinished):
        raise RuntimeError(f"a run ended with {type(last).__name__}")
    if last.cancelled:
        raise Interrupted
    score_map = dense.note(last.score_map, seen[-1].tissue)
    stages = Stages()
    stages.add({name: value for name, value in last.seconds.items() if name != "total"})
    if folder is not None:
        score_map = replace(score_map, run_meta={**score_map.run_meta, **stamp})
        with stages.timed("write"):
            _write(task, score_map, options, folder, dense, seen[-1].thumbnail)
    return Outcome(
        row=scored_row(task, score_map, last.seconds, last.encoded_regions, last.cache),
        score_map=score_map,
        seen_nan=score_map.n_nan > 0,
        problems=last.problems,
        points=last.points,
        reader=last.reader,
        encoder=last.encoder,
        seconds=stages.to_dict(),
        screening=score_map.run_meta.get(RunMeta.SCREENING, {}),
    )


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
