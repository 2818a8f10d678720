"""Workers that are actors on a Ray cluster; the process of `ray_child` has them."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from xt_backend.errors import EngineError, XTError

from ..job import Job
from ..plan import Task
from .messages import Broke, Done, GaveUp, Lost, Message, Ready
from .place import check_place
from .working import Upcoming, work_off

__all__ = ["RayCrew", "alive_nodes"]

_CHECK_S = 2.0
_GONE_AFTER = 3
"""So many times in a row the cluster must not answer."""
_NOBODY_S = 600.0
"""How long no worker at all may be there, before the batch is given up."""


class Member:
    """An actor: one worker with one model.

    Args:
        job: What it works on, with absolute paths.
        versions: Of the machine of the plan.
    """

    def __init__(self, job: Job, versions: Mapping[str, str]) -> None:
        self._error: XTError | None = None
        self._stop = threading.Event()
        self._upcoming = Upcoming()
        try:
            check_place(job, versions)
        except XTError as error:
            self._error = error
        self._worker = job.worker()

    def begin(self) -> Iterator[Message]:
        """Say that it is there, or why it cannot work."""
        yield Ready() if self._error is None else Broke(self._error)

    def work(self, task: Task) -> Iterator[Message]:
        """Do a task; `stop` is heard meanwhile, in another thread."""
        told: queue.SimpleQueue[Message] = queue.SimpleQueue()
        given = (self._worker, task, told.put, self._stop.is_set, self._upcoming)
        threading.Thread(target=work_off, args=given, daemon=True).start()
        while True:
            message = told.get()
            yield message
            if isinstance(message, Done | GaveUp | Broke):
                return

    def announce(self, task: Task) -> None:
        """Take note of the task that probably comes next."""
        self._upcoming.tell(task)

    def stop(self) -> None:
        """Give up what it has in hand."""
        self._stop.set()


class RayCrew:
    """Workers that are actors; see `Crew`.

    Args:
        job: What they work on, with absolute paths.
        versions: Of this machine.
        n_cpus: Of each.
        n_gpus: Of each, 0 or 1.
        address: HOST:PORT of the cluster.
    """

    def __init__(
        self, job: Job, versions: Mapping[str, str], n_cpus: float, n_gpus: int, address: str
    ) -> None:
        self._job = ray.put(job)
        self._versions = dict(versions)
        # A worker of a batch on the processor shall see no GPU, and say so as one without does.
        hidden = {} if n_gpus else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        self._member = ray.remote(Member).options(
            num_cpus=n_cpus, num_gpus=n_gpus, max_concurrency=2, runtime_env=hidden or None
        )
        self._address = address
        self._actors: dict[int, Any] = {}
        self._words: dict[int, Any] = {}
        self._there: set[int] = set()
        self._looked = self._somebody = time.monotonic()
        self._silent = 0

    def hire(self, number: int) -> None:
        """Ask for an actor; it comes when the cluster has room."""
        self._actors[number] = actor = self._member.remote(self._job, self._versions)
        self._words[number] = _told(actor.begin)

    def give(self, number: int, task: Task) -> None:
        """Call the actor."""
        self._words[number] = _told(self._actors[number].work, task)

    def announce(self, number: int, task: Task) -> None:
        """Tell the actor."""
        self._actors[number].announce.remote(task)

    def cancel(self) -> None:
        """Tell all."""
        for actor in self._actors.values():
            actor.stop.remote()

    def hear(self, timeout_s: float) -> Iterable[tuple[int, Message]]:
        """What has come from the cluster."""
        self._look()
        numbers = {words: number for number, words in self._words.items()}
        if not numbers:
            time.sleep(timeout_s)
            return
        said, _ = ray.wait(list(numbers), num_returns=1, timeout=timeout_s)
        for words in said:
            number = numbers[words]
            try:
                message: Any = ray.get(next(cast("Any", words)))
            except StopIteration:
                del self._words[number]
                continue
            except RayTaskError as error:
                raise EngineError(
                    f"A worker of Ray cannot work: {_last_line(error)}",
                    "Install the same napari-xt on all machines of the cluster",
                ) from error
            except RayActorError as error:
                del self._words[number], self._actors[number]
                self._there.discard(number)
                if type(error.__cause__) is RayTaskError or "creation task" in str(error):
                    raise EngineError(
                        f"A worker of Ray cannot start: {_last_line(error)}",
                        "Install the same napari-xt on all machines of the cluster",
                    ) from error
                yield number, Lost(_cause(error))
                continue
            if isinstance(message, Ready):
                self._there.add(number)
            yield number, message

    def _look(self) -> None:
        """See now and then whether the cluster is still there.

        Ray itself waits for a minute and then ends this process.

        Raises:
            EngineError: It is not.
        """
        now = time.monotonic()
        if now - self._looked < _CHECK_S:
            return
        self._looked = now
        why = _unreachable(self._address)
        self._silent = self._silent + 1 if why else 0
        if self._silent >= _GONE_AFTER:
            raise _lost_cluster(self._address, why)
        if why:
            return
        with contextlib.suppress(RayError):
            if not alive_nodes():
                raise _lost_cluster(self._address, "all of its nodes are dead")
        if self._there:
            self._somebody = now
        elif now - self._somebody > _NOBODY_S:
            raise EngineError(
                f"No worker has started on the Ray cluster at {self._address} for "
                f"{_NOBODY_S:.0f} s",
                "See with ray status what its nodes are busy with, or ask for fewer --processes",
            )


def _told(method: Any, *arguments: Any) -> Any:
    """Call a method of an actor that gives one message after another."""
    return method.options(num_returns="streaming").remote(*arguments)


def _lost_cluster(address: str, why: str) -> EngineError:
    """What to say of a cluster that was there."""
    return EngineError(
        f"The Ray cluster at {address} was lost: {why}",
        "Start it again, then run the same command to go on: what is done is kept",
    )


def alive_nodes() -> list[dict[str, float]]:
    """Resources of each node of the cluster, e.g. ``CPU`` and ``GPU``."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [dict(node["Resources"]) for node in nodes if node["Alive"]]


def _unreachable(address: str) -> str:
    """Why nobody answers at HOST:PORT; empty when somebody does."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return ""
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__


def _cause(error: RayActorError) -> str:
    """Why an actor is gone, without the many ways in which that could be."""
    text = " ".join(str(error).split())
    found = re.search(r"The actor is dead because ([^.]*)", text)
    return found.group(1).strip() if found else text[:200]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
