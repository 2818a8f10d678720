"""Rows of slides.csv for what becomes of a task."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt_backend.config import CommonOptions
from xt_backend.errors import SlideMppError
from xt_backend.keys import RegionStatus, RunMeta, ScreeningMeta, SlideStatus, Stopped
from xt_backend.outputs import SlideRow, without_folders
from xt_backend.slides import Slide, open_slide
from xt_backend.store import ScoreMap
from xt_backend.wording import counted

from .pseudonyms import hidden

if TYPE_CHECKING:
    from .plan import Task

__all__ = ["failed_row", "known_facts", "reason_of", "scored_row", "stopped_row"]

_log = logging.getLogger(__name__)

_STOPPED = {
    Stopped.INTERRUPTED: "Interrupted before this slide was done",
    Stopped.NOT_STARTED: "Interrupted before this slide was started",
}


def known_facts(task: Task, options: CommonOptions) -> dict[str, Any]:
    """What can be said of a slide that failed: size and pixel size, as attributes of `SlideRow`.

    Empty where it does not even open.

    Args:
        task: The slide.
        options: Of the batch.
    """
    try:
        with _open(task, task.own_options(options)) as slide:
            info = slide.info
    except Exception:
        # It failed already, for a reason that is told; this may fail again in any way.
        _log.debug("nothing is known of a failed slide", exc_info=True)
        return {}
    facts: dict[str, Any] = {"width_px": info.width_px, "height_px": info.height_px}
    if info.mpp is not None:
        facts |= {"slide_mpp": info.mpp.value, "mpp_source": info.mpp.source}
    return facts


def _open(task: Task, options: CommonOptions) -> Slide:
    path = task.source.path
    try:
        return open_slide(
            path, options.slide_mpp, accept_objective_mpp=options.accept_objective_mpp
        )
    except SlideMppError:
        return open_slide(path)


def failed_row(
    task: Task, reason: str, facts: Mapping[str, Any], files: Sequence[Path] = ()
) -> SlideRow:
    """The row of a slide that could not be worked on; no folder is named in it.

    Args:
        task: The slide.
        reason: Cause and way out.
        facts: Of `known_facts`.
        files: Others that the reason may name: model, ROI, tissue.
    """
    paths = [task.source.path, *files]
    if task.source.roi is not None:
        paths.append(task.source.roi)
    with contextlib.suppress(OSError):  # it may have been removed
        # A name in the working folder stands for the folder itself.
        paths.append(Path.cwd() / task.source.path.name)
    return SlideRow(
        row=task.source.row,
        slide=task.name,
        id=task.slide_id,
        status=SlideStatus.FAILED,
        reason=hidden(without_folders(reason, paths), task.source),
        **facts,
    )


def stopped_row(task: Task, how: Stopped) -> SlideRow:
    """The row of a slide that was not done before the batch was interrupted."""
    return SlideRow(
        row=task.source.row,
        slide=task.name,
        id=task.slide_id,
        status=SlideStatus.FAILED,
        reason=f"{_STOPPED[how]}. Run the same command again to go on.",
    )


def scored_row(
    task: Task, score_map: ScoreMap, seconds: Mapping[str, float], encoded: int, cache: str
) -> SlideRow:
    """The row of a slide that was scored.

    Args:
        task: The slide.
        score_map: Its result.
        seconds: By stage; missing ones are not known.
        encoded: Regions that went through the region encoder.
        cache: ``hit``, ``partial`` or ``miss``.
    """
    meta = score_map.run_meta
    return SlideRow.from_score_map(
        score_map,
        task.source.row,
        reason=reason_of(
            len(score_map),
            notes=[str(note) for note in meta.get(RunMeta.NOTES, ())],
            warnings=[str(warning) for warning in meta.get(RunMeta.WARNINGS, ())],
            n_failed=score_map.n_failed,
            n_nan=score_map.n_nan,
            n_excluded=score_map.status_counts()[RegionStatus.EXCLUDED],
            screening=meta.get(RunMeta.SCREENING),
        ),
        seconds_read=seconds.get("read"),
        seconds_encode=seconds.get("encode"),
        seconds_context=seconds.get("context"),
        seconds_total=seconds.get("total"),
        encoded_regions=encoded,
        cache=str(cache),
    )


def reason_of(
    n_regions: int,
    *,
    notes: list[str],
    warnings: list[str],
    n_failed: int,
    n_nan: int = 0,
    n_excluded: int = 0,
    screening: Mapping[str, Any] | None = None,
) -> str:
    """What the row of a slide that is done, or empty, says about it.

    Args:
        n_regions: Selected regions; without any, the notes say why.
        notes: What the user should know.
        warnings: Those of the notes that put the result in doubt.
        n_failed: Regions that could not be read.
        n_nan: Regions that were encoded but have no number.
        n_excluded: Regions that were left out because their picture is doubtful.
        screening: See `ScreeningMeta`; None where nothing was screened.
    """
    if not n_regions:
        return "; ".join(notes) or "no tissue was found"
    said = list(warnings)
    if n_failed:
        said.append(f"{counted(n_failed, 'region')} could not be read")
    if n_nan:
        verb = "has" if n_nan == 1 else "have"
        said.append(f"{counted(n_nan, 'region')} {verb} no number (NaN)")
    if n_excluded:
        verb = "was" if n_excluded == 1 else "were"
        said.append(f"{counted(n_excluded, 'region')} {verb} left out as doubtful")
    if screening and not screening[ScreeningMeta.SCREENED_OUT]:
        said.append(_why_all(screening, n_regions))
    return "; ".join(said)


def _why_all(screening: Mapping[str, Any], n_regions: int) -> str:
    """Why a screening left nothing out."""
    if screening[ScreeningMeta.DRAWN] >= n_regions:
        return f"nothing was screened out: of {counted(n_regions, 'region')} all were drawn"
    n, needed = screening[ScreeningMeta.POSITIVES], screening[ScreeningMeta.NEEDED]
    classes = " or ".join(screening[ScreeningMeta.CLASSES])
    if n >= needed:
        return f"nothing was screened out: at low resolution nothing tells {classes} from the rest"
    return (
        f"nothing was screened out: {counted(n, 'region')} of {classes} among those drawn, and it "
        f"takes {needed:,} to promise a recall of {screening[ScreeningMeta.RECALL]:g}"
    )
