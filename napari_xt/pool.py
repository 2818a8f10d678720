"""Threads that never keep Python from ending."""

from __future__ import annotations

import contextlib
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
        self._lock = threading.Lock()
        self._open = True
        self._threads = [
            threading.Thread(target=_work, args=(self._jobs,), name=f"{name}-{index}", daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Call `function(*args)` in one of the threads; once shut down, never: it is cancelled."""
        future: Future[Result] = Future()
        with self._lock:
            if self._open:
                self._jobs.put((future, function, args))
            else:
                _cancel(future)
        return future

    def shut_down(self) -> None:
        """Cancel what waits, and let the threads end after the job in hand; does not wait."""
        with self._lock:
            self._open = False
            with contextlib.suppress(queue.Empty):
                while (job := self._jobs.get_nowait()) is not None:
                    _cancel(job[0])
            for _ in self._threads:
                self._jobs.put(None)


def _cancel(future: Future[Any]) -> None:
    future.cancel()
    future.set_running_or_notify_cancel()  # wakes who waits for it


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, function, args = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
        # The last job must not keep its pyramid alive while this thread waits for the next.
        del job, future, function, args
