"""What a batch asks of whoever works on its slides, in this process or in another one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from xt_backend.config import EncodingOptions
from xt_backend.engine import EncoderChoice, Event, RegionsEncoded
from xt_backend.errors import XTError
from xt_backend.keys import Stopped

from .folder import RunFolder
from .loop import Results
from .outcome import Interrupted, Outcome
from .plan import Task
from .task import failed

__all__ = ["Executor", "Job", "Told", "Watch", "Worker", "one_after_another"]

Told: TypeAlias = Event | RegionsEncoded
"""What is told of a task while it is done."""
Watch = Callable[[Task, Told], None]
"""Told every event of a task's run."""


@dataclass(frozen=True)
class Job(ABC):
    """All that the tasks of a batch have in common.

    Plain data: it may be pickled and sent to another process or machine that sees the same files.

    Attributes:
        options: Of the batch.
        folder: Run directory; None keeps results in memory only.
        choice: How all slides are encoded.
    """

    options: EncodingOptions
    folder: RunFolder | None
    choice: EncoderChoice

    @abstractmethod
    def worker(self) -> Worker:
        """Who does tasks of this job; it loads the model with its first slide, and keeps it."""

    @property
    @abstractmethod
    def files(self) -> dict[str, Path]:
        """What is read beside the slides and the files among the options, by what it is called."""

    @abstractmethod
    def absolute(self) -> Self:
        """The same job with absolute paths of `files`."""

    @abstractmethod
    def finished(self, task: Task) -> Outcome | None:
        """What an earlier call made of a slide that need not be done again; nothing is computed.

        Raises:
            OutputError: A file that is now asked for cannot be written.
        """

    @abstractmethod
    def recovered(self, task: Task) -> Outcome | None:
        """What is known of a slide that was not reached; None where it is not finished.

        Raises:
            OutputError: As of `finished`.
        """

    def failed(self, task: Task, error: XTError) -> Outcome:
        """The outcome of a task that nobody can do, published: its workers died over it.

        Nothing is said of the slide, which this process had better not open.

        Args:
            task: The task.
            error: What is wrong.

        Raises:
            OutputError: It cannot be written.
        """
        return failed(task, str(error), self.options, self.folder, list(self.files.values()))


class Worker(ABC):
    """Does tasks of a job, one at a time; any number of workers may share a job.

    What became of a slide is in the run directory when `run` returns, complete, so that
    `summarise` finds it whatever becomes of the worker and of whoever started it.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @abstractmethod
    def ready(self) -> None:
        """Load what every slide needs, where that can go wrong for all of them.

        Raises:
            XTError: No slide can be done here, or not with the same results.
        """

    @abstractmethod
    def run(
        self,
        task: Task,
        watch: Watch = lambda task, told: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        """Do a slide and publish its files and its outcome.

        Returns:
            The outcome; without maps and points where they are in files.

        Raises:
            Interrupted: `cancelled` said so before the end.
            ModelError: The model cannot be used; the batch cannot go on.
            OutputError: The output cannot be written; nor can it.
        """

    @abstractmethod
    def begin(self, task: Task) -> None:
        """Prepare the slide of the next task beside all else."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what was prepared."""


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
