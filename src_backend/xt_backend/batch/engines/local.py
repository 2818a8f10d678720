"""The slides of a batch on this machine: in this process, or in others that may die."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener, wait
from time import monotonic
from typing import Any

from xt_backend.children import accept, end_child, ending_of, start_child
from xt_backend.engine import Device
from xt_backend.errors import EngineError, XTError
from xt_backend.keys import Stopped

from ..isolation import Isolation
from ..job import Executor, Job, Watch
from ..outcome import Outcome
from ..plan import Task
from .dispatch import dispatch
from .member import STOP
from .messages import Broke, Coming, Done, GaveUp, Lost, Message
from .working import anywhere, anywhere_task

__all__ = ["LocalEngine", "ProcessCrew"]

POLITE_S = 2.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"

_STILL = (
    "Run the same command again with more minutes for --give-up-after, or with the slide on a "
    "quicker disk; if that does not help, leave the slide out"
)


class LocalEngine:
    """One process for each GPU; this process where there is one GPU, or none.

    Args:
        asked: Device that was asked for.
        processes: How many, whatever the devices; they share the GPUs, or the processor.
        isolation: One is not this process either; None where it may be.
    """

    device: Device | None = None

    def __init__(
        self, asked: str, processes: int | None = None, *, isolation: Isolation | None = None
    ) -> None:
        self._asked = asked
        self._processes = processes
        self._isolation = isolation

    def executor(self, device: Device) -> Executor | None:
        """See `BatchEngine.executor`."""
        gpus = _gpus(self._asked, device)
        n = self._processes or max(1, len(gpus))
        if n == 1 and self._isolation is None:
            return None
        environments = [_seeing(gpus[i % len(gpus)]) if gpus else _sharing(n) for i in range(n)]
        return _Processes(environments, self._isolation)

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
        isolation: Slides may end them, or hold them for ever; None where neither is expected.
    """

    def __init__(
        self, environments: Sequence[Mapping[str, str]], isolation: Isolation | None
    ) -> None:
        self.environments = environments
        self._isolation = isolation

    def __call__(
        self, job: Job, tasks: Sequence[Task], watch: Watch, cancelled: Callable[[], bool]
    ) -> Iterator[tuple[Task, Outcome | Stopped]]:
        """See `Executor`."""
        isolation = self._isolation
        give_up_s = None if isolation is None else isolation.give_up_s
        crew = ProcessCrew(anywhere(job), self.environments, give_up_s)
        try:
            yield from dispatch(
                crew,
                len(self.environments),
                job,
                tasks,
                watch,
                cancelled,
                expect_losses=isolation is not None,
            )
        finally:
            crew.close()


@dataclass
class _Member:
    """A process.

    Attributes:
        busy: It has a task.
        silent_s: How long it was listened to since it last said anything, or got its task.
    """

    child: subprocess.Popen[bytes]
    connection: Connection
    busy: bool = False
    silent_s: float = 0.0

    def heard(self, message: Message) -> None:
        """Take note of what it said."""
        self.silent_s = 0.0
        if isinstance(message, Done | GaveUp | Broke):
            self.busy = False

    def end(self) -> None:
        """End it, politely and then not; what is on the disk is safe at any moment."""
        self.connection.close()
        end_child(self.child, POLITE_S)


class ProcessCrew:
    """Workers in processes of this machine; see `Crew`.

    Args:
        job: What they work on, with absolute paths.
        environments: Variables of each.
        give_up_s: One that has a task and says nothing for so long is ended, s; None for never.
    """

    def __init__(
        self,
        job: Job,
        environments: Sequence[Mapping[str, str]],
        give_up_s: float | None = None,
    ) -> None:
        self._job = job
        self.environments = environments
        self._give_up_s = give_up_s
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
                end_child(child, 0.0)
                self._lost.append((number, Lost(error.cause)))
                return
        self._members[number] = _Member(child, connection)
        self._send(number, self._job)

    def give(self, number: int, task: Task) -> None:
        """Send a task."""
        if (member := self._members.get(number)) is not None:
            member.busy, member.silent_s = True, 0.0
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
        if heard:
            return heard
        numbers = {member.connection: number for number, member in self._members.items()}
        began = monotonic()
        ready = wait(list(numbers), timeout_s)
        # No more than was asked for: what sleeps together with this process is not silent.
        waited_s = min(monotonic() - began, timeout_s)
        for connection, number in numbers.items():
            member = self._members[number]
            if connection in ready:
                heard.append((number, self._from(number, member)))
            elif member.busy and self._give_up_s is not None:
                member.silent_s += waited_s
                if member.silent_s >= self._give_up_s:
                    heard.append((number, self._give_up(number, self._give_up_s)))
        return heard

    def _from(self, number: int, member: _Member) -> Message:
        """What a process said, or how it ended."""
        try:
            message: Message = member.connection.recv()
        except (EOFError, OSError):
            self._end(number)
            return Lost(f"its process ended unexpectedly ({ending_of(member.child)})")
        member.heard(message)
        return message

    def _give_up(self, number: int, give_up_s: float) -> Lost:
        """End a process over whose slide nothing moves."""
        self._end(number)
        waited = f"nothing moved for {give_up_s / 60:g} min"
        return Lost(waited, EngineError(f"The slide was given up, as {waited}", _STILL))

    def _end(self, number: int) -> None:
        self._members.pop(number).end()

    def close(self) -> None:
        """End all processes."""
        members, self._members = self._members, {}
        for member in members.values():
            member.connection.close()  # all at once, then one is waited for after another
        for member in members.values():
            member.end()
