"""What a batch would do, without encoding anything."""

from __future__ import annotations

from typing import Any

from xt_backend.engine import RunFailed, RunPlanned

from .score import Batch

__all__ = ["dry_run_rows"]


def dry_run_rows(batch: Batch) -> list[dict[str, Any]]:
    """One row per input: regions, how many are cached, pixel size, or why it would fail."""
    return [_row(batch, index) for index in range(len(batch.tasks))]


def _row(batch: Batch, index: int) -> dict[str, Any]:
    task = batch.tasks[index]
    row: dict[str, Any] = {"row": task.source.row, "slide": task.name, "id": task.slide_id}
    if task.source.problem:
        return {**row, "status": "failed", "reason": task.source.problem}
    for event in batch.events(task):
        if isinstance(event, RunFailed):
            return {**row, "status": "failed", "reason": str(event.error)}
        if isinstance(event, RunPlanned):
            return {
                **row,
                "status": "planned",
                "reason": "; ".join(event.notes),
                "n_regions": event.n_regions,
                "n_cached": event.n_cached,
                "slide_mpp": sum(event.score_map.slide_mpp) / 2,
                "mpp_source": event.score_map.mpp_source,
            }
    raise RuntimeError("a run ended without an event")
