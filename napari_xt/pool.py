"""Threads that never keep Python from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["DaemonPool"]

Result = TypeVar("Result")
_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DaemonPool:
    """A few daemon threads with one queue.

    The standard pool is joined when Python ends; a read that hangs on a network share would keep
    a closed napari alive.

    Args:
        threads: How many.
        name: Start of their names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=_work, args=(self._jobs,), name=f"{name}-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Call `function(*args)` in one of the threads."""
        future: Future[Result] = Future()
        self._jobs.put((future, function, args))
        return future

    def shut_down(self) -> None:
        """Let the threads end after what was submitted so far; does not wait."""
        for _ in self._threads:
            self._jobs.put(None)


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, function, args = job
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        # The last job must not keep its pyramid alive while this thread waits for the next.
        del job, future, function, args
