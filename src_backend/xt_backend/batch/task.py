"""One slide of a batch: score it, write its files, say how it went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xt_backend.config import CommonOptions, ScoreOptions
from xt_backend.engine import (
    STAGES,
    Engine,
    Event,
    Overview,
    RunFailed,
    RunFinished,
    Stages,
    is_out_of_memory,
)
from xt_backend.errors import ModelError, OutputError, XTError
from xt_backend.keys import Encoding, RegionStatus, RunFile, RunH5, RunMeta, Stopped
from xt_backend.outputs import (
    visible,
    write_geojson,
    write_overlay,
    write_regions_csv,
    write_regions_parquet,
)
from xt_backend.slides import Thumbnail, open_slide
from xt_backend.store import ScoreMap

from .dense import DenseResult, dense_files
from .folder import RunFolder
from .outcome import Interrupted, Outcome
from .plan import Task
from .pseudonyms import hidden
from .rows import failed_row, known_facts, scored_row

__all__ = ["attempt", "failed", "finished_before", "run_task"]

_log = logging.getLogger(__name__)


def attempt(
    task: Task,
    options: CommonOptions,
    folder: RunFolder | None,
    work: Callable[[], Outcome],
    files: Sequence[Path] = (),
) -> Outcome:
    """Do the work of a task; whatever is wrong with the slide ends in a failed row.

    A failed slide keeps no files of an earlier run, which would contradict its row. What became of
    the slide is published in the folder's ledger.

    Args:
        task: The slide.
        options: Of the batch.
        folder: Run directory; None keeps results in memory only.
        work: What is to be done.
        files: Beside the slide, what is read; their folders are kept out of the row.

    Raises:
        Interrupted: As `work` does.
        ModelError: The model cannot be used; the batch cannot go on.
        OutputError: The output cannot be written; nor can it.
    """
    outcome: Outcome | None = None
    reason = task.source.problem
    if not reason:
        try:
            outcome = work()
        except (Interrupted, OutputError, ModelError):
            raise  # a model that cannot be used is no better for the next slide
        except XTError as error:
            reason = task.source.told(str(error))
        except Exception as error:
            if is_out_of_memory(error):
                reason = "The machine ran out of memory. Close other programs, or use --roi."
            else:
                reason = _unexpected(task, error)
            reason = task.source.told(reason)
    if outcome is None:
        return failed(task, reason, options, folder, files, known_facts(task, options))
    if folder is not None and outcome.kept:
        folder.note(outcome)
    return outcome


def failed(
    task: Task,
    reason: str,
    options: CommonOptions,
    folder: RunFolder | None,
    files: Sequence[Path] = (),
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """The outcome of a slide that has failed, published; the slide is not looked at.

    Args:
        task: The slide.
        reason: Cause and way out.
        options: Of the batch.
        folder: Run directory, which keeps no files of the slide; None where there is none.
        files: Beside the slide, what was read; their folders are kept out of the row.
        facts: Of `known_facts`.

    Raises:
        OutputError: It cannot be written.
    """
    outcome = Outcome(failed_row(task, reason, facts, [*files, *options.files()]))
    if folder is not None:
        folder.remove(task.slide_id)
        folder.note(outcome)
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
    stages = Stages()
    if folder is not None:
        with stages.timed("open"):
            stamp = _stamp(task, options, folder)
            kept = _kept(task, options, folder, stamp)
        if kept is not None:
            return replace(kept, seconds=stages.to_dict())
    if cancelled():
        raise Interrupted(Stopped.NOT_STARTED)
    with DenseResult(None if folder is None else folder.path) as dense:
        last: Event | None = None
        seen: list[Overview] = []
        for event in engine.run(task.spec(model, options), cancelled, seen.append):
            with stages.timed("write"):
                dense.take(event)
            on_event(event)
            last = event
        return _finish(task, last, stamp, options, folder, dense, seen, stages)


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
    configuration = stamp["configuration"]
    found = folder.finished(task.slide_id, configuration, stamp[RunH5.META_SLIDE_IDENTITY])
    if found is None or not _allowed(found, options):
        return None
    known = folder.known(task)
    if known is not None and known.configuration == configuration:
        if not folder.is_whole(known.files):
            _log.warning("files of %s are not as they were written; made anew", task.slide_id)
            return None
        if added := _asked_for_now(task, found, options, folder):
            folder.note_files(task.slide_id, added)
        return replace(known, score_map=found, kept=True)
    _asked_for_now(task, found, options, folder)
    # Made by a version without a ledger, or its entry is damaged.
    return Outcome(
        scored_row(task, found, {}, 0, Encoding.HIT),
        found,
        found.n_nan > 0,
        screening=found.run_meta.get(RunMeta.SCREENING) or {},
        configuration=configuration,
        kept=True,
    )


def _asked_for_now(
    task: Task, score_map: ScoreMap, options: ScoreOptions, folder: RunFolder
) -> dict[str, str]:
    """Write what an earlier call was not asked for; its digests by name."""
    path = folder.file(task.slide_id, RunFile.PARQUET)
    if "parquet" not in options.layouts or path.is_file():
        return {}
    write_regions_parquet(path, score_map)
    return folder.digests(task.slide_id, [RunFile.PARQUET])


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
    stages: Stages,
) -> Outcome:
    """From the last event of a run to the outcome; writes the files."""
    if isinstance(last, RunFailed):
        raise last.error
    if not isinstance(last, RunFinished):
        raise RuntimeError(f"a run ended with {type(last).__name__}")
    if last.cancelled:
        raise Interrupted
    stages.add({name: last.seconds[name] for name in STAGES})
    with stages.timed("write"):
        score_map = dense.note(last.score_map, seen[-1].tissue)
        meta = score_map.run_meta
        said = {key: meta[key] for key in (RunMeta.NOTES, RunMeta.WARNINGS) if key in meta}
        score_map = replace(score_map, run_meta={**meta, **hidden(said, task.source)})
    files: dict[str, str] = {}
    if folder is not None:
        score_map = replace(score_map, run_meta={**score_map.run_meta, **stamp})
        folder.reopen(task.slide_id)
        with stages.timed("write"):
            files = _write(task, score_map, options, folder, dense, seen[-1].thumbnail)
    outcome = Outcome(
        row=scored_row(task, score_map, last.seconds, last.encoded_regions, last.cache),
        score_map=score_map,
        seen_nan=score_map.n_nan > 0,
        problems=hidden(last.problems, task.source),
        points=last.points,
        reader=last.reader,
        encoder=last.encoder,
        seconds=stages.to_dict(),
        screening=score_map.run_meta.get(RunMeta.SCREENING, {}),
        configuration=stamp.get("configuration", ""),
        files=files,
    )
    if folder is not None:
        with stages.timed("write"):
            folder.note(outcome)
            # The last file, since it says that the others are there.
            score_map.save(folder.file(task.slide_id, RunFile.SCORE_MAP))
    return replace(outcome, seconds=stages.to_dict())


def _write(
    task: Task,
    score_map: ScoreMap,
    options: ScoreOptions,
    folder: RunFolder,
    dense: DenseResult,
    thumbnail: Thumbnail,
) -> dict[str, str]:
    """Write the files of a slide, but for the score map; their digests by name."""

    def path(suffix: str) -> Path:
        return folder.file(task.slide_id, suffix)

    write_regions_csv(path(RunFile.REGIONS_CSV), score_map)
    write_geojson(path(RunFile.GEOJSON), score_map)
    write_overlay(
        path(RunFile.OVERLAY_PNG),
        score_map,
        thumbnail.rgb,
        thumbnail.scale_x,
        thumbnail.scale_y,
        dense.drawn(score_map),
    )
    if "parquet" in options.layouts:
        write_regions_parquet(path(RunFile.PARQUET), score_map)
    dense.write(path, score_map)
    written = [*RunFile.of_every_result(), *dense_files(score_map.task)]
    written += [RunFile.PARQUET] * ("parquet" in options.layouts)
    return folder.digests(task.slide_id, written)
