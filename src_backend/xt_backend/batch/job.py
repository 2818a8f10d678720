"""What a batch asks of whoever works on its slides, in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol

from xt_backend.config import ScoreOptions
from xt_backend.engine import EncoderChoice, Engine, Event, Wish
from xt_backend.errors import XTError
from xt_backend.keys import Stopped
from xt_backend.model import ModelCard, find_model, read_card

from .folder import RunFolder
from .loop import Results
from .outcome import Interrupted, Outcome
from .plan import Task
from .task import failed, run_task

__all__ = ["Executor", "Job", "Watch", "Worker", "one_after_another"]

Watch = Callable[[Task, Event], None]
"""Told every event of a task's run."""


@dataclass(frozen=True)
class Job:
    """All that the tasks of a batch have in common.

    Plain data: it may be pickled and sent to another process or machine that sees the same files.

    Attributes:
        model: File of the model.
        options: Of the batch.
        folder: Run directory; None keeps results in memory only.
        choice: How all slides are encoded.
    """

    model: str
    options: ScoreOptions
    folder: RunFolder | None
    choice: EncoderChoice

    def on(self, device: str) -> Job:
        """The same job for a worker on a device of its own.

        Args:
            device: For example ``cuda:1``; of the kind that the batch was planned for.
        """
        return replace(self, options=self.options.model_copy(update={"device": device}))

    def failed(self, task: Task, error: XTError) -> Outcome:
        """The outcome of a task that nobody can do, published: its workers died over it.

        Nothing is said of the slide, which this process had better not open.

        Args:
            task: The task.
            error: What is wrong.

        Raises:
            OutputError: It cannot be written.
        """
        return failed(task, str(error), self.options, self.folder, [Path(self.model)])

    def worker(self) -> Worker:
        """Who does tasks of this job; it loads the model with its first slide, and keeps it."""
        return Worker(self)


class Worker:
    """Does tasks of a job, one at a time; any number of workers may share a job.

    What became of a slide is in the run directory when `run` returns, complete, so that
    `summarise` finds it whatever becomes of the worker and of whoever started it.

    Args:
        job: The job.
        engine: That has loaded the model, if any has.
    """

    def __init__(self, job: Job, engine: Engine | None = None) -> None:
        self._job = job
        self._engine = engine or Engine()
        self._engine.choice = job.choice

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(
        self,
        task: Task,
        watch: Watch = lambda task, event: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Score a slide and publish its files and its outcome; see `run_task`.

        Returns:
            The outcome; without maps and points where they are in files.

        Raises:
            Interrupted: `cancelled` said so before the end.
            OutputError: The output cannot be written; the batch cannot go on.
        """
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
        """Prepare the slide of the next task beside all else."""
        card, spec = self._card, task.spec(self._job.model, self._job.options)
        mpp = card.mpp(spec.model_mpp)
        self._engine.ahead.begin(Wish(spec.slide, mpp, card.scored_px, spec, card.stain))

    def close(self) -> None:
        """Let go of what was prepared."""
        self._engine.ahead.close()

    @cached_property
    def _card(self) -> ModelCard:
        return read_card(find_model(self._job.model))


class Executor(Protocol):
    """Does the tasks of a job: one after another here, or in other processes."""

    def __call__(
        self,
        job: Job,
        tasks: Sequence[Task],
        watch: Watch,
        cancelled: Callable[[], bool],
    ) -> Results:
        """Do tasks.

        Args:
            job: What they have in common.
            tasks: In the order in which they should be begun.
            watch: To be told events, from one thread.
            cancelled: Asked often. When it says so, tasks in hand are given up and none is begun.

        Yields:
            Each task that was begun, once, in any order, with its outcome, or with
            `Stopped.INTERRUPTED` where it was given up. Tasks that are never yielded count as not
            started.

        Raises:
            OutputError: The output cannot be written; the batch cannot go on.
        """
        ...


def one_after_another(
    worker: Worker,
    tasks: Sequence[Task],
    watch: Watch,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[Task, Outcome | Stopped]]:
    """The tasks as one worker does them, until it is interrupted; see `Executor`."""
    for task in tasks:
        try:
            yield task, worker.run(task, watch, cancelled)
        except Interrupted as interrupted:
            yield task, interrupted.how
            return
