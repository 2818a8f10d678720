"""One slide scored into a run directory, as work for `Backend`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xt_backend.config import ScoreOptions
from xt_backend.engine.events import JobEvent, JobFinished, JobTold
from xt_backend.keys import SlideStatus

from .score import Batch

__all__ = ["save_run"]


def save_run(
    run_id: str,
    cancelled: Callable[[], bool],
    *,
    slide: Path,
    model: str,
    out: Path,
    options: ScoreOptions,
    words: list[str],
) -> Iterator[JobEvent]:
    """Score a slide as the command does; quick where its features are stored.

    Args:
        run_id: Of the job.
        cancelled: Asked after every batch.
        slide: Slide file or DICOM folder.
        model: Name or file of a model.
        out: Run directory.
        options: Those of the run.
        words: The command that does the same.

    Raises:
        XTError: As of `Batch`.
    """
    yield JobTold(run_id, "")
    batch = Batch([slide], model, out, options, arguments=words)
    run = batch.run(cancelled=cancelled)
    if run.interrupted:
        yield JobFinished(run_id, None, cancelled=True)
        return
    row = run.rows[0]
    result: dict[str, Any] = {
        "done": row.status != SlideStatus.FAILED,
        "reason": row.reason,
        "encoded_regions": row.encoded_regions,
    }
    yield JobFinished(run_id, result)
