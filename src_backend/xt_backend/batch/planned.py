"""A batch that is planned: what all of them have in common, whatever they make of a slide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from typing import Any

from xt_backend.engine import Device, EncoderChoice, Stages

from .folder import RunFolder
from .following import Following
from .inputs import Inputs
from .job import Executor, Job, Told, Watch, Worker, one_after_another
from .loop import Results, run_tasks
from .outcome import Outcome
from .plan import Task
from .report import RunReport, facts_of
from .result import Run
from .summary import take_known
from .table import SlideTable

__all__ = ["PlannedBatch"]


class PlannedBatch(ABC):
    """Tasks, the job that they have in common, and the tables that are kept of them.

    Attributes:
        inputs: Rows, and what was passed over.
        device: That the batch was planned for.
        choice: How all slides are encoded.
        folder: Run directory; None keeps results in memory only.
        tasks: All of the batch, in the order of the inputs.
        todo: Those that are to be done, in the order in which they are begun.
        job: What these have in common.
        classes: The model's classes; none where nothing is predicted.
        kinds: Kinds of points of a detection model.
    """

    inputs: Inputs
    device: Device
    choice: EncoderChoice
    folder: RunFolder | None
    tasks: tuple[Task, ...]
    todo: tuple[Task, ...]
    job: Job
    classes: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._stages = Stages()
        self._previous: dict[str, Any] = {}

    def run(
        self,
        on_event: Watch = lambda task, told: None,
        on_outcome: Callable[[Task, Outcome], None] = lambda task, outcome: None,
        cancelled: Callable[[], bool] = lambda: False,
        execute: Executor | None = None,
    ) -> Run:
        """Do all slides; a bad one gets a failed row and the batch goes on.

        When `cancelled`, the slide in hand is abandoned (its stored regions stay stored) and the
        rest get rows that say so.

        Args:
            on_event: Told the task and each event of its run.
            on_outcome: Told the task and how it went.
            cancelled: Asked after every read batch.
            execute: Who does the tasks; None does them here, one after another.

        Raises:
            ModelError: The model's weights are not those of its card.
            OutputError: The output cannot be written.
            EngineError: Those who do the tasks are out of reach.
        """
        report = self.publish_plan()
        table = SlideTable(self.folder, self.tasks, self.classes, self.kinds)
        outcomes: dict[str, Outcome] = {}
        if self.folder is not None:
            outcomes |= take_known(self.folder, self.tasks, table, report)

        def take(task: Task, outcome: Outcome) -> None:
            outcomes[task.slide_id] = outcome
            on_outcome(task, outcome)

        with ExitStack() as stack:
            results = (execute or self._here)(self.job, self.todo, on_event, cancelled)
            if isinstance(results, Generator):
                stack.enter_context(closing(results))  # an error here ends its workers at once
            stopped = run_tasks(self.todo, table, report, results, self.job.recovered, take)
        if not stopped:
            self._finish()
        return Run(
            rows=table.rows,
            classes=self.classes,
            kinds=self.kinds,
            folder=None if self.folder is None else self.folder.path,
            score_maps={
                slide_id: outcome.score_map
                for slide_id, outcome in outcomes.items()
                if outcome.score_map is not None
            },
            found_points={
                slide_id: outcome.points
                for slide_id, outcome in outcomes.items()
                if outcome.points is not None
            },
            stopped=stopped,
            seen_nan=any(outcome.seen_nan for outcome in outcomes.values()),
            seconds=report.seconds,
            passed_over=tuple(self.inputs.passed_over_values()),
        )

    def publish_plan(self) -> RunReport:
        """Write what is known before the first slide, so that `summarise` can do the rest.

        `run` does it too. To be called alone where workers are started that go on by themselves.

        Returns:
            What is to gather the outcomes.

        Raises:
            OutputError: It cannot be written.
        """
        facts = facts_of(self.device, self.inputs, self.choice, self._previous)
        report = RunReport(self.folder, facts, self._stages)
        if self.folder is not None:
            report.write("running", {})  # first: it says whose the folder is
            if local := self._local():
                self.folder.write_local(local)
            self.folder.write_plan(self.tasks, self.classes, self.kinds, facts)
        return report

    def _here(
        self, job: Job, tasks: Sequence[Task], watch: Watch, cancelled: Callable[[], bool]
    ) -> Results:
        """In this process, with the encoder that is loaded already."""
        del job

        def see(task: Task, told: Told) -> None:
            following.watch(task, told)
            watch(task, told)

        with self._worker() as worker:
            following = Following(tasks, self.folder, worker.begin)
            yield from one_after_another(worker, tasks, see, cancelled)

    @abstractmethod
    def _worker(self) -> Worker:
        """One of this process."""

    def _finish(self) -> None:  # noqa: B027  most have nothing to add
        """Write what goes with all slides, when each of them has come to its end.

        Raises:
            OutputError: It cannot be written.
        """

    def _local(self) -> dict[str, Any]:
        """What only this machine is to know of the batch; empty for nothing."""
        return {}
