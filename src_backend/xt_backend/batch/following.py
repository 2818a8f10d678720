"""When the slide that comes next is begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .folder import RunFolder
from .plan import Task

__all__ = ["Following"]

NEAR_END = 0.9
"""Share of a slide's regions that are done when the next slide is begun."""


class Following:
    """Begins the next slide of a batch once, when the one in hand comes to its end.

    Slides that an earlier call finished, and inputs that are no slides, are passed over.

    Args:
        tasks: Of the batch, in their order.
        folder: Run directory.
        begin: Prepares the slide of a task beside all else.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        folder: RunFolder | None,
        begin: Callable[[Task], None],
    ) -> None:
        self._begin = begin
        left = [
            task
            for task in tasks
            if not task.source.problem and (folder is None or not folder.holds(task.slide_id))
        ]
        self._next = {task.slide_id: after for task, after in pairwise(left)}

    def watch(self, task: Task, done: int, total: int) -> None:
        """Take note of how far a slide is."""
        if done >= NEAR_END * total and (after := self._next.pop(task.slide_id, None)) is not None:
            self._begin(after)
