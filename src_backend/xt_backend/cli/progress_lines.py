"""Progress where nobody watches: plain lines for a log file, few and far between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.progress import TaskID

from xt_backend.wording import counted

__all__ = ["ProgressLines"]

LEAST_S = 10.0
"""Between two lines."""

MOST_S = 60.0
"""After which a line is due though hardly anything was done."""

STEP = 0.1
"""Share of the work that is worth a line."""


@dataclass
class _Task:
    description: str
    total: float | None
    started: float
    completed: float = 0.0
    before: float | None = None  # done when it was first heard of: a training that goes on
    rate: float = 0.0
    told: float = 0.0

    @property
    def share(self) -> float:
        return self.completed / self.total if self.total else 0.0


class ProgressLines:
    """Takes what a bar of rich takes, as far as it is used here.

    Args:
        write: Takes a line.
        clock: Seconds from any start.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._tasks: list[_Task] = []
        self._last = clock()

    def add_task(self, description: str, *, total: float | None) -> TaskID:
        """Begin something."""
        self._tasks.append(_Task(description, total, self._clock()))
        return TaskID(len(self._tasks) - 1)

    def update(
        self,
        task_id: TaskID,
        *,
        total: float | None = None,
        completed: float | None = None,
        description: str | None = None,
        visible: bool | None = None,
        **fields: Any,
    ) -> None:
        """Take in how far it is, and say so when a line is due."""
        del visible
        task = self._tasks[task_id]
        task.total = task.total if total is None else total
        if completed is not None:
            task.completed = completed
            task.before = completed if task.before is None else task.before
        task.description = description or task.description
        task.rate = fields.get("rate", 0.0)
        self._tell(task)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """One more is done."""
        self._tasks[task_id].before = self._tasks[task_id].before or 0.0
        self.update(task_id, completed=self._tasks[task_id].completed + advance)

    def remove_task(self, task_id: TaskID) -> None:
        """Nothing more will be heard of it."""
        self._tasks[task_id].total = None

    def _tell(self, task: _Task) -> None:
        now = self._clock()
        waited = now - self._last
        if waited < LEAST_S or not task.total:
            return
        if waited < MOST_S and 0 <= task.share - task.told < STEP - 1e-9:
            return
        self._last, task.told = now, task.share
        fresh = task.completed - (task.before or 0.0)
        rate = task.rate or fresh / max(now - task.started, 1e-9)
        line = f"{task.description}: {task.completed:,.0f} of {task.total:,.0f} ({task.share:.0%})"
        if rate and task.completed < task.total:
            left = (task.total - task.completed) / rate
            line += f", {rate:.2g}/s, {_duration(left)} left"
        self._write(line)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{counted(minutes // 60, 'hour')} {minutes % 60} min"
