"""A batch on a Ray cluster: the process that speaks with it. Started by `RayEngine`.

In a process of its own, since Ray ends the process in which it is when it loses its cluster.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import ray

from xt_backend.children import calling_parent
from xt_backend.engine.remote.cluster import alive_nodes
from xt_backend.errors import DeviceError, UsageError, XTError

from ..configuration import versions
from ..job import Told
from ..plan import Task
from .dispatch import dispatch
from .messages import Broke, Seen
from .ray_crew import RayCrew
from .ray_words import STOP, Begin, Ended, Open, Opened, Result
from .session_folder import session_folder

__all__ = ["main"]

_CPUS = 4
"""Cores of a worker that has no GPU, by default."""
_OBJECT_STORE_BYTES = 100 << 20
"""Next to nothing goes through it."""


def main() -> None:
    """Open a cluster, then do one batch."""
    logging.disable(logging.WARNING)  # Ray's own, which nobody asked for
    with calling_parent() as connection, session_folder() as folder:
        wanted: Open = connection.recv()
        _leave_for(folder)
        try:
            opened = _open(wanted, folder)
            connection.send(opened)
            _work(connection, opened, wanted)
        except XTError as error:
            connection.send(Broke(error))
        except EOFError:
            pass  # the parent wants no more
        finally:
            ray.shutdown()


def _leave_for(folder: Path) -> None:
    """Work in another folder, as workers on other machines do: no path may depend on it."""
    if found := os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, found.split(os.pathsep)))
    os.chdir(folder)


def _open(wanted: Open, folder: Path) -> Opened:
    try:
        if wanted.address is None:
            ray.init(
                address="local",
                num_cpus=max(wanted.processes or 0, _cores()),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                log_to_driver=False,
                _temp_dir=str(folder),
            )
        else:
            ray.init(address=wanted.address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "on this machine" if wanted.address is None else f"at {wanted.address}"
        raise DeviceError(
            f"There is no Ray cluster {where} to work on: {' '.join(str(error).split())[:300]}",
            "Check with ray status that it runs, and with which version of Ray",
        ) from error
    gpus = int(sum(node.get("GPU", 0) for node in alive_nodes()))
    return Opened(ray.get_runtime_context().gcs_address, gpus)


def _work(connection: Connection, opened: Opened, wanted: Open) -> None:
    begin: Begin = connection.recv()
    n_workers, cpus = _shares(wanted.processes, begin.on_gpus)
    crew = RayCrew(begin.job, versions(), cpus, int(begin.on_gpus), opened.address)

    def watch(task: Task, told: Told) -> None:
        connection.send(Seen(task, told))

    for task, result in dispatch(
        crew, n_workers, begin.job, begin.tasks, watch, _asked(connection)
    ):
        connection.send(Result(task, result))
    connection.send(Ended())


def _asked(connection: Connection) -> Callable[[], bool]:
    """Whether the parent wants the batch to stop."""
    stopped = False

    def cancelled() -> bool:
        nonlocal stopped
        while connection.poll():
            stopped |= connection.recv() == STOP
        return stopped

    return cancelled


def _shares(processes: int | None, on_gpus: bool) -> tuple[int, float]:
    """How many workers, and the cores of each.

    Raises:
        UsageError: The cluster never has room for so many.
    """
    nodes = alive_nodes()
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if on_gpus:
        room = sum(int(node.get("GPU", 0)) for node in nodes)
        share = min(
            [_CPUS, *(max(1, int(n.get("CPU", 1) // n["GPU"])) for n in nodes if n.get("GPU"))]
        )
    elif processes is None:
        room = sum(max(1, n // _CPUS) for n in cpus if n)
        share = min([_CPUS, *(n for n in cpus if n)])
    else:
        room = sum(cpus)
        share = max(1, min(sum(cpus) // processes, min((n for n in cpus if n), default=1)))
    n_workers = processes or room
    if n_workers > room or not room:
        kind = "GPUs" if on_gpus else "processors"
        raise UsageError(
            f"--processes {n_workers}: the Ray cluster has {room} {kind}",
            "Ask for fewer, or leave --processes out",
        )
    return n_workers, share


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
