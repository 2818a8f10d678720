"""Workers that are actors on a Ray cluster; the process of `ray_child` has them."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import ray
from ray.exceptions import RayActorError, RayTaskError

from xt_backend.engine.remote.cluster import Pulse, last_line
from xt_backend.errors import EngineError, XTError

from ..job import Job
from ..plan import Task
from .messages import Broke, Done, GaveUp, Lost, Message, Ready
from .place import check_place
from .working import Upcoming, work_off

__all__ = ["RayCrew"]

_LOST = "Start it again, then run the same command to go on: what is done is kept"
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
        self._pulse = Pulse(address, _LOST)
        self._actors: dict[int, Any] = {}
        self._words: dict[int, Any] = {}
        self._there: set[int] = set()
        self._somebody = time.monotonic()

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
                    f"A worker of Ray cannot work: {last_line(error)}",
                    "Install the same napari-xt on all machines of the cluster",
                ) from error
            except RayActorError as error:
                del self._words[number], self._actors[number]
                self._there.discard(number)
                if type(error.__cause__) is RayTaskError or "creation task" in str(error):
                    raise EngineError(
                        f"A worker of Ray cannot start: {last_line(error)}",
                        "Install the same napari-xt on all machines of the cluster",
                    ) from error
                yield number, Lost(_cause(error))
                continue
            if isinstance(message, Ready):
                self._there.add(number)
            yield number, message

    def _look(self) -> None:
        """See now and then whether the cluster is still there, and somebody to work on it.

        Raises:
            EngineError: They are not.
        """
        self._pulse.check()
        now = time.monotonic()
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


def _cause(error: RayActorError) -> str:
    """Why an actor is gone, without the many ways in which that could be."""
    text = " ".join(str(error).split())
    found = re.search(r"The actor is dead because ([^.]*)", text)
    return found.group(1).strip() if found else text[:200]
