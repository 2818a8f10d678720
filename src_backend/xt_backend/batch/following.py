"""When the slide that comes next is begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from xt_backend.engine import RegionsEncoded, RegionsScored

from .folder import RunFolder
from .job import Told
from .plan import Task

__all__ = ["Following", "comes_to_its_end", "is_to_be_read"]

NEAR_END = 0.9
"""Share of a slide's regions that are done when the next slide is begun."""


def comes_to_its_end(told: Told) -> bool:
    """Whether it is time to begin the slide after the one of which this is told."""
    if not isinstance(told, RegionsScored | RegionsEncoded):
        return False
    return told.done >= NEAR_END * told.total


def is_to_be_read(task: Task, folder: RunFolder | None) -> bool:
    """Whether there is a slide to begin: no result of an earlier call, no row without a slide."""
    return not task.source.problem and (folder is None or not folder.holds(task.slide_id))


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
        left = [task for task in tasks if is_to_be_read(task, folder)]
        self._next = {task.slide_id: after for task, after in pairwise(left)}

    def watch(self, task: Task, told: Told) -> None:
        """Take note of how far a slide is."""
        if not comes_to_its_end(told):
            return
        if (after := self._next.pop(task.slide_id, None)) is not None:
            self._begin(after)
