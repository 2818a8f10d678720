"""A batch from its plan to its last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .console import note, progress_bar
from .interrupt import listening
from .progress import RunBar
from .rows import show_run, tell_passed_over

if TYPE_CHECKING:
    from xt_backend.batch.engaged import Plans
    from xt_backend.batch.engines import EngineOptions
    from xt_backend.batch.planned import PlannedBatch
    from xt_backend.config import EncodingOptions

    from .options import OutOption

__all__ = ["run_batch", "tell_plan"]


def tell_plan(batch: PlannedBatch) -> None:
    """Say on stderr what a batch runs on, and what it passes over."""
    note(f"device: {batch.device.name}, {batch.device.precision} ({batch.device.reason})")
    note(f"encoder: {batch.choice.way} ({batch.choice.reason})")
    tell_passed_over(batch.inputs)


def run_batch(
    engine: EngineOptions, options: EncodingOptions, plan: Plans[PlannedBatch], own: OutOption
) -> int:
    """Plan a batch, run it and show what became of it.

    Args:
        engine: Who works on the slides.
        options: Of the work.
        plan: Plans the batch.
        own: Of the command.

    Returns:
        The exit code.
    """
    from xt_backend.batch.engaged import engage

    with engage(engine, options, plan) as engaged:
        batch = engaged.batch
        tell_plan(batch)
        with listening() as stop, progress_bar() as bar:
            shown = RunBar(bar, len(batch.todo))
            run = engaged.run(shown.on_event, shown.on_outcome, stop)
    show_run(run, own.out, own.json)
    return stop.exit_code if run.interrupted else run.exit_code
