"""The slides of a batch on this machine: in this process, or in others that may die."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener, wait
from typing import Any

from xt_backend.children import accept, end_child, ending_of, start_child
from xt_backend.engine import Device
from xt_backend.errors import XTError
from xt_backend.keys import Stopped

from ..job import Executor, Job, Watch
from ..outcome import Outcome
from ..plan import Task
from .dispatch import dispatch
from .member import STOP
from .messages import Coming, Lost, Message
from .working import anywhere, anywhere_task

__all__ = ["LocalEngine", "ProcessCrew"]

POLITE_S = 2.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


class LocalEngine:
    """One process for each GPU; this process where there is one GPU, or none.

    Args:
        asked: Device that was asked for.
        processes: How many, whatever the devices; they share the GPUs, or the processor.
        isolate: One is not this process either.
    """

    device: Device | None = None

    def __init__(self, asked: str, processes: int | None = None, *, isolate: bool = False) -> None:
        self._asked = asked
        self._processes = processes
        self._isolate = isolate

    def executor(self, device: Device) -> Executor | None:
        """See `BatchEngine.executor`."""
        gpus = _gpus(self._asked, device)
        n = self._processes or max(1, len(gpus))
        if n == 1 and not self._isolate:
            return None
        environments = [_seeing(gpus[i % len(gpus)]) if gpus else _sharing(n) for i in range(n)]
        return _Processes(environments, self._isolate)

    def close(self) -> None:
        """Nothing is kept open between two batches."""


def _gpus(asked: str, device: Device) -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls each GPU that may be used; none where one was named."""
    if device.kind != "cuda" or ":" in asked:
        return []
    import torch

    named = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    return named or [str(index) for index in range(torch.cuda.device_count())]


def _seeing(gpu: str) -> dict[str, str]:
    # Each then has a cuda:0, and what it writes does not depend on which GPU that is.
    return {_VISIBLE: gpu}


def _sharing(n: int) -> dict[str, str]:
    """Processes on the processor share it, unless the user says how."""
    if n == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n))}


class _Processes:
    """An `Executor` with several processes.

    Args:
        environments: Variables of each.
        isolate: Slides may end them.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]], isolate: bool) -> None:
        self.environments = environments
        self._isolate = isolate

    def __call__(
        self, job: Job, tasks: Sequence[Task], watch: Watch, cancelled: Callable[[], bool]
    ) -> Iterator[tuple[Task, Outcome | Stopped]]:
        """See `Executor`."""
        crew = ProcessCrew(anywhere(job), self.environments)
        try:
            yield from dispatch(
                crew,
                len(self.environments),
                job,
                tasks,
                watch,
                cancelled,
                expect_losses=self._isolate,
            )
        finally:
            crew.close()


@dataclass(frozen=True)
class _Member:
    child: subprocess.Popen[bytes]
    connection: Connection

    def end(self) -> None:
        """End it, politely and then not; what is on the disk is safe at any moment."""
        self.connection.close()
        end_child(self.child, POLITE_S)


class ProcessCrew:
    """Workers in processes of this machine; see `Crew`.

    Args:
        job: What they work on, with absolute paths.
        environments: Variables of each.
    """

    def __init__(self, job: Job, environments: Sequence[Mapping[str, str]]) -> None:
        self._job = job
        self.environments = environments
        self._members: dict[int, _Member] = {}
        self._lost: list[tuple[int, Message]] = []

    def hire(self, number: int) -> None:
        """Start a process; waits until it has called."""
        key = secrets.token_bytes(32)
        with Listener(authkey=key) as listener:
            child = start_child(
                "xt_backend.batch.engines.member",
                str(listener.address),
                key,
                environment=self.environments[number],
            )
            try:
                connection = accept(listener, child)
            except XTError as error:
                self._lost.append((number, Lost(error.cause)))
                return
        self._members[number] = _Member(child, connection)
        self._send(number, self._job)

    def give(self, number: int, task: Task) -> None:
        """Send a task."""
        self._send(number, anywhere_task(task))

    def announce(self, number: int, task: Task) -> None:
        """Send it, marked as one that is yet to come."""
        self._send(number, Coming(anywhere_task(task)))

    def cancel(self) -> None:
        """Tell all."""
        for number in self._members:
            self._send(number, STOP)

    def _send(self, number: int, content: Any) -> None:
        try:
            self._members[number].connection.send(content)
        except OSError:
            return  # gone: `hear` finds out

    def hear(self, timeout_s: float) -> list[tuple[int, Message]]:
        """What has come by the connections."""
        heard, self._lost = self._lost, []
        numbers = {member.connection: number for number, member in self._members.items()}
        if not heard:
            for connection in wait(list(numbers), timeout_s):
                assert isinstance(connection, Connection)
                number = numbers[connection]
                try:
                    heard.append((number, connection.recv()))
                except (EOFError, OSError):
                    member = self._members.pop(number)
                    member.end()
                    cause = f"its process ended unexpectedly ({ending_of(member.child)})"
                    heard.append((number, Lost(cause)))
        return heard

    def close(self) -> None:
        """End all processes."""
        members, self._members = self._members, {}
        for member in members.values():
            member.connection.close()  # all at once, then one is waited for after another
        for member in members.values():
            member.end()
