"""Tasks handed out to workers elsewhere: to each the next one as soon as it is free."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from xt_backend.errors import BackendDiedError
from xt_backend.keys import Stopped

from ..job import Job, Watch
from ..outcome import Outcome
from ..plan import Task
from .messages import Broke, Done, GaveUp, Lost, Message, Ready, Seen

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
    workers were lost has failed.

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
    waiting, in_hand = deque(tasks), dict[int, Task]()
    idle: list[int] = []
    once_lost: set[str] = set()
    n_workers = min(n_workers, len(tasks))
    lost_in_a_row = 0
    stopping: float | None = None
    for number in range(n_workers):
        crew.hire(number)
    while waiting or in_hand:
        if stopping is None and cancelled():
            stopping = time.monotonic()
            waiting.clear()
            crew.cancel()
        if stopping is not None and time.monotonic() - stopping > PATIENCE_S:
            yield from ((task, Stopped.INTERRUPTED) for task in in_hand.values())
            return
        while idle and waiting:
            number = idle.pop()
            in_hand[number] = task = waiting.popleft()
            crew.give(number, task)
        for number, message in crew.hear(POLL_S):
            if isinstance(message, Seen):
                watch(message.task, message.event)
            elif isinstance(message, Broke):
                raise message.error
            elif isinstance(message, Lost):
                lost = in_hand.pop(number, None)
                if lost is None or not expect_losses:
                    lost_in_a_row += 1
                if number in idle:
                    idle.remove(number)
                cause = f"A worker was lost: {message.cause}"
                _log.warning("%s", cause)
                if lost is not None:
                    if stopping is not None:
                        yield lost, Stopped.INTERRUPTED
                    elif lost.slide_id in once_lost:
                        error = BackendDiedError(f"{cause}, twice with this slide", _AGAIN)
                        yield lost, job.failed(lost, error)
                    else:
                        once_lost.add(lost.slide_id)
                        waiting.appendleft(lost)
                if lost_in_a_row > 2 * n_workers + _LOSSES:
                    raise BackendDiedError(
                        f"{lost_in_a_row} workers were lost one after another; the last: "
                        f"{message.cause}",
                        _AGAIN,
                    )
                if waiting:
                    crew.hire(number)
            else:
                idle.append(number)
                if isinstance(message, Ready):
                    continue
                task = in_hand.pop(number)
                if isinstance(message, Done):
                    lost_in_a_row = 0
                    yield task, message.outcome
                elif isinstance(message, GaveUp):
                    yield task, message.how
