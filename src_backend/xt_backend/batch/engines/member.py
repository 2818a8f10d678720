"""A worker in a process of its own: the child's side. Started by `ProcessCrew`."""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection

from xt_backend.children import calling_parent

from ..job import Job
from ..plan import Task
from .messages import Coming, Ready
from .working import Upcoming, work_off

__all__ = ["main"]

STOP = "stop"
"""Parent to child: give up what you have in hand."""


def main() -> None:
    """Take the job, then tasks, until the parent has no more."""
    with calling_parent() as connection:
        job: Job = connection.recv()
        stop = threading.Event()
        tasks: queue.Queue[Task | None] = queue.Queue()
        upcoming = Upcoming()
        heard = (connection, tasks, upcoming, stop)
        threading.Thread(target=_listen, args=heard, daemon=True).start()
        with job.worker() as worker:
            connection.send(Ready())
            while (task := tasks.get()) is not None:
                work_off(worker, task, connection.send, stop.is_set, upcoming)


def _listen(
    connection: Connection,
    tasks: queue.Queue[Task | None],
    upcoming: Upcoming,
    stop: threading.Event,
) -> None:
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            tasks.put(None)
            return
        if message == STOP:
            stop.set()
        elif isinstance(message, Coming):
            upcoming.tell(message.task)
        else:
            tasks.put(message)


if __name__ == "__main__":
    main()
