"""Slides that are scored, as work that may be done anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from xt_backend.config import ScoreOptions
from xt_backend.engine import Engine, Wish
from xt_backend.model import ModelCard, find_model, read_card

from .job import Job, Watch, Worker
from .outcome import Outcome
from .plan import Task
from .retry import told_before
from .task import finished_before, run_task

__all__ = ["ScoreJob", "Scorer"]


@dataclass(frozen=True)
class ScoreJob(Job):
    """See `Job`.

    Attributes:
        model: File of the model.
        isolate: Slides are opened by workers only, never by the process of the batch.
    """

    options: ScoreOptions
    model: str
    isolate: bool = False

    def worker(self) -> Scorer:
        """See `Job`."""
        return Scorer(self)

    @property
    def files(self) -> dict[str, Path]:
        """See `Job`."""
        return {"model": Path(self.model)}

    def absolute(self) -> Self:
        """See `Job`."""
        return replace(self, model=str(Path(self.model).absolute()))

    def finished(self, task: Task) -> Outcome | None:
        """See `Job`; known by content and configuration."""
        return finished_before(task, self.options, self.folder)

    def recovered(self, task: Task) -> Outcome | None:
        """See `Job`."""
        if self.isolate:
            return told_before(task, self.options, self.folder)
        return self.finished(task)


class Scorer(Worker):
    """Scores slides; see `Worker`.

    Args:
        job: The job.
        engine: That has loaded the model, if any has.
    """

    def __init__(self, job: ScoreJob, engine: Engine | None = None) -> None:
        self._job = job
        self._engine = engine or Engine()
        self._engine.choice = job.choice

    def ready(self) -> None:
        """See `Worker`; the engine loads the model with the first slide that needs it."""

    def run(
        self,
        task: Task,
        watch: Watch = lambda task, told: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """See `Worker` and `run_task`."""
        job = self._job
        outcome = run_task(
            task,
            job.model,
            job.options,
            job.folder,
            self._engine,
            lambda event: watch(task, event),
            cancelled,
        )
        return outcome if job.folder is None else outcome.light()

    def begin(self, task: Task) -> None:
        """See `Worker`."""
        card, spec = self._card, task.spec(self._job.model, self._job.options)
        mpp = card.mpp(spec.model_mpp)
        self._engine.ahead.begin(Wish(spec.slide, mpp, card.scored_px, spec, card.stain))

    def close(self) -> None:
        """See `Worker`."""
        self._engine.ahead.close()

    @cached_property
    def _card(self) -> ModelCard:
        return read_card(find_model(self._job.model))
