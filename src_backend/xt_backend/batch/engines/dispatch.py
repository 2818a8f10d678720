"""Tasks handed out to workers elsewhere: to each the next one as soon as it is free."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from xt_backend.errors import BackendDiedError
from xt_backend.keys import Stopped

from ..following import is_to_be_read
from ..job import Job, Watch
from ..loop import Results
from ..outcome import Outcome
from ..plan import Task
from .messages import Broke, Done, Lost, Message, NearEnd, Ready, Seen

__all__ = ["Crew", "dispatch"]

_log = logging.getLogger(__name__)

POLL_S = 0.2
PATIENCE_S = 10.0
"""How long workers that are asked to stop may take."""

_LOSSES = 5
"""So many workers more than two each may be lost in a row; then it is not the slides that do it."""

_AGAIN = "Run the same command again to go on; regions that were stored are not encoded again"


class Crew(Protocol):
    """Workers in processes of their own, each known by a number."""

    def hire(self, number: int) -> None:
        """Start a worker in the place of `number`; its first message is `Ready` or `Lost`."""

    def give(self, number: int, task: Task) -> None:
        """Hand a task to a worker that has none; one that is gone says `Lost`."""

    def announce(self, number: int, task: Task) -> None:
        """Tell a worker that is about to be free which task it probably gets next."""

    def cancel(self) -> None:
        """Ask all workers to give up what they have in hand."""

    def hear(self, timeout_s: float) -> Iterable[tuple[int, Message]]:
        """What workers said since, waiting for a first word no longer than `timeout_s`.

        Raises:
            EngineError: All of them are out of reach.
        """
        ...


def dispatch(
    crew: Crew,
    n_workers: int,
    job: Job,
    tasks: Sequence[Task],
    watch: Watch,
    cancelled: Callable[[], bool],
    *,
    expect_losses: bool = False,
) -> Iterator[tuple[Task, Outcome | Stopped]]:
    """Have tasks done by a crew; see `Executor`.

    A worker that is lost is replaced, and its task given to another; a task with which two
    workers were lost has failed, as has one whose worker was ended over it.

    Args:
        crew: The workers.
        n_workers: How many there are to be; no more are hired than there are tasks.
        job: What the tasks have in common.
        tasks: In the order in which they should be begun.
        watch: Told events.
        cancelled: Asked often.
        expect_losses: Slides are of the kind that workers die over, any number in a row; only
            workers that are lost without one end the batch.

    Raises:
        OutputError: The output cannot be written.
        EngineError: The workers are out of reach, or one after another is lost.
    """
    yield from _Dispatch(crew, n_workers, job, tasks, watch, expect_losses).run(cancelled)


class _Dispatch:
    """Who has which task; see `dispatch`."""

    def __init__(
        self,
        crew: Crew,
        n_workers: int,
        job: Job,
        tasks: Sequence[Task],
        watch: Watch,
        expect_losses: bool,
    ) -> None:
        self._crew = crew
        self._n_workers = min(n_workers, len(tasks))
        self._job = job
        self._watch = watch
        self._expect_losses = expect_losses
        self._waiting = deque(tasks)
        self._in_hand: dict[int, Task] = {}
        self._idle: deque[int] = deque()
        self._announced: dict[int, Task] = {}
        self._once_lost: set[str] = set()
        self._alone: set[str] = set()
        self._lost_in_a_row = 0
        self._stopping: float | None = None

    def run(self, cancelled: Callable[[], bool]) -> Results:
        """Until every task has come to its end."""
        for number in range(self._n_workers):
            self._crew.hire(number)
        while self._waiting or self._in_hand:
            if self._stopping is None and cancelled():
                self._stop()
            if self._stopping is not None and time.monotonic() - self._stopping > PATIENCE_S:
                yield from ((task, Stopped.INTERRUPTED) for task in self._in_hand.values())
                return
            self._hand_out()
            for number, message in self._crew.hear(POLL_S):
                yield from self._take(number, message)

    def _stop(self) -> None:
        self._stopping = time.monotonic()
        self._waiting.clear()
        self._crew.cancel()

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            number = self._idle.popleft()
            self._in_hand[number] = task = self._next_for(number)
            self._crew.give(number, task)

    def _next_for(self, number: int) -> Task:
        """The task that it has prepared, else the first one; nobody keeps one from another."""
        task = self._announced.pop(number, None)
        if task is None or task not in self._waiting:
            task = next(self._unannounced(), self._waiting[0])
        self._waiting.remove(task)
        return task

    def _unannounced(self) -> Iterator[Task]:
        """What waits and is prepared by nobody."""
        prepared = {task.slide_id for task in self._announced.values()}
        return (task for task in self._waiting if task.slide_id not in prepared)

    def _take(self, number: int, message: Message) -> Results:
        if isinstance(message, Seen):
            self._watch(message.task, message.event)
        elif isinstance(message, NearEnd):
            self._announce(number)
        elif isinstance(message, Broke):
            raise message.error
        elif isinstance(message, Lost):
            yield from self._lose(number, message)
        elif isinstance(message, Ready):
            self._idle.append(number)
        else:
            self._idle.append(number)
            task = self._in_hand.pop(number)
            if isinstance(message, Done):
                self._lost_in_a_row = 0
                yield task, message.outcome
            else:
                yield task, message.how

    def _announce(self, number: int) -> None:
        if self._in_hand[number].slide_id in self._alone:
            return  # what is prepared beside it could be what kills
        for task in self._unannounced():
            if task.slide_id not in self._alone and is_to_be_read(task, self._job.folder):
                self._announced[number] = task
                self._crew.announce(number, task)
                return

    def _lose(self, number: int, lost: Lost) -> Results:
        """A worker is gone; another one is hired where there is something left to do.

        Raises:
            BackendDiedError: One after another is lost.
        """
        task = self._in_hand.pop(number, None)
        if task is None or not self._expect_losses:
            self._lost_in_a_row += 1
        announced = self._announced.pop(number, None)
        if number in self._idle:
            self._idle.remove(number)
        told = f"A worker was lost: {lost.cause}"
        _log.warning("%s", told)
        if task is not None:
            if self._stopping is not None:
                yield task, Stopped.INTERRUPTED
            elif announced is not None:
                # Which of the two it was shows when each has a worker to itself.
                self._alone |= {task.slide_id, announced.slide_id}
                self._waiting.appendleft(task)
            elif lost.verdict is not None:
                yield task, self._job.failed(task, lost.verdict)
            elif task.slide_id in self._once_lost:
                error = BackendDiedError(f"{told}, twice with this slide", _AGAIN)
                yield task, self._job.failed(task, error)
            else:
                self._once_lost.add(task.slide_id)
                self._waiting.appendleft(task)
        if self._lost_in_a_row > 2 * self._n_workers + _LOSSES:
            raise BackendDiedError(
                f"{self._lost_in_a_row} workers were lost one after another; the last: "
                f"{lost.cause}",
                _AGAIN,
            )
        if self._waiting:
            self._crew.hire(number)
