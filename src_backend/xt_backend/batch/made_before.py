"""Feature files that an earlier call made: known by slide, configuration and content."""

from __future__ import annotations

import logging
from dataclasses import replace

from xt_backend.config import FeatureOptions
from xt_backend.outputs import SlideRow
from xt_backend.slides import open_slide

from .folder import RunFolder
from .outcome import Outcome
from .plan import Task
from .retry import told_before

__all__ = ["made_before"]

_log = logging.getLogger(__name__)


def made_before(task: Task, options: FeatureOptions, folder: RunFolder) -> Outcome | None:
    """The outcome of a slide whose files need not be made again, else None.

    The slide must be the same, and the files whole as they were written under the same
    configuration: the ledger has a digest of each, since most tools' files have none.

    Args:
        task: The slide.
        options: Of the batch.
        folder: Run directory.
    """
    if task.source.problem:
        return None
    known = told_before(task, options, folder)
    if known is None or not known.files or not _allowed(known.row, options):
        return None
    try:
        with open_slide(task.source.path) as slide:
            if slide.identity() != known.identity:
                return None
    except Exception:
        # Whatever is wrong with the slide is told when its turn comes.
        _log.debug("nothing is known of a slide", exc_info=True)
        return None
    return replace(known, kept=True) if folder.is_whole(known.files) else None


def _allowed(row: SlideRow, options: FeatureOptions) -> bool:
    """The limits, which may be others now, do not refuse a result."""
    n, n_failed = row.n_regions or 0, row.n_failed_regions or 0
    n_px = (row.width_px or 0) * (row.height_px or 0)
    return n_failed <= options.max_failed_fraction * n and n_px <= options.max_pixels
