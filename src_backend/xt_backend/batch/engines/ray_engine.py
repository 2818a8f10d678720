"""The slides of a batch on a Ray cluster: an existing one, or one of its own on this machine."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from multiprocessing.connection import Listener
from typing import Any

from xt_backend.children import POLL_S, accept, end_child, ending_of, start_child
from xt_backend.config import EncodingOptions
from xt_backend.engine import Device
from xt_backend.engine.elsewhere import check_address, check_listening
from xt_backend.errors import DeviceError, EngineError, UsageError, XTError
from xt_backend.keys import Stopped

from ..job import Executor, Job, Watch
from ..outcome import Outcome
from ..plan import Task
from .elsewhere import device_elsewhere
from .messages import Broke, Seen
from .ray_words import STOP, Begin, Ended, Open, Opened, Result
from .working import anywhere, anywhere_task

__all__ = ["RayEngine"]

_OPEN_S = 120.0
_STOP_S = 15.0
_PRIVATE = {
    # Its servers then listen on 127.0.0.1 only, as they do by default on Windows and macOS.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}
_ALWAYS = {"RAY_USAGE_STATS_ENABLED": "0"}


class RayEngine:
    """Actors with one model each, on the GPUs or processors of a cluster.

    Args:
        address: HOST:PORT of its head, or ``auto``; None starts one on this machine that only
            this machine can reach, without dashboard and usage statistics.
        processes: Workers; one for each GPU, or for every four processors, when None.
        options: Of the batch.

    Raises:
        UsageError: Ray is not installed, or the address is none.
        DeviceError: The cluster cannot be reached or started.
    """

    def __init__(
        self, address: str | None, processes: int | None, options: EncodingOptions
    ) -> None:
        if find_spec("ray") is None:
            raise UsageError("Ray is not installed", 'Install it with pip install "napari-xt[ray]"')
        if address is not None:
            check_address(address)
            check_listening(address)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  until `close`
        own = {**_PRIVATE, "RAY_AUTH_TOKEN": secrets.token_hex(32)} if address is None else {}
        key = secrets.token_bytes(32)
        with Listener(authkey=key) as listener:
            self._child = start_child(
                "xt_backend.batch.engines.ray_child",
                str(listener.address),
                key,
                environment={**_ALWAYS, **own},
                errors=self._said,
            )
            try:
                self._connection = accept(listener, self._child)
            except XTError as error:
                raise self._ended() from error
        try:
            self._connection.send(Open(address, processes))
            opened = self._next(_OPEN_S)
            if not isinstance(opened, Opened):
                raise DeviceError(
                    f"Ray has not answered for {_OPEN_S:.0f} s",
                    "See with ray status whether it runs",
                )
            self._on_gpus = options.device in ("auto", "cuda") and opened.gpus > 0
            self.device = device_elsewhere(options, opened.gpus > 0, "the workers of Ray")
        except BaseException:
            self.close()
            raise

    def executor(self, device: Device) -> Executor | None:
        """See `BatchEngine.executor`."""
        return self

    def __call__(
        self, job: Job, tasks: Sequence[Task], watch: Watch, cancelled: Callable[[], bool]
    ) -> Iterator[tuple[Task, Outcome | Stopped]]:
        """See `Executor`."""
        given = {task.slide_id: task for task in tasks}
        self._connection.send(Begin(anywhere(job), tuple(map(anywhere_task, tasks)), self._on_gpus))
        stopping: float | None = None
        while True:
            message = self._next(POLL_S)
            if isinstance(message, Seen):
                watch(given[message.task.slide_id], message.event)
            elif isinstance(message, Result):
                yield given[message.task.slide_id], message.result
            elif isinstance(message, Ended):
                return
            if stopping is None and cancelled():
                stopping = time.monotonic()
                self._connection.send(STOP)
            if stopping is not None and time.monotonic() - stopping > _STOP_S:
                return

    def _next(self, timeout_s: float) -> Any:
        """What the child says next; None where it says nothing in time.

        Raises:
            XTError: That the child tells, or that it is gone.
        """
        try:
            if not self._connection.poll(timeout_s):
                return None
            message = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(message, Broke):
            raise message.error
        return message

    def _ended(self) -> EngineError:
        """Why the child is gone, in the words of Ray where it left some."""
        end_child(self._child, _STOP_S)
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        why = f": {lines[-1].strip()[-300:]}" if lines else ""
        return EngineError(
            f"The process that speaks with Ray ended unexpectedly ({ending_of(self._child)}){why}",
            "Run the same command again to go on: what is done is kept",
        )

    def close(self) -> None:
        """End the child, and with it a cluster that it has started."""
        self._connection.close()
        end_child(self._child, _STOP_S)
        self._said.close()
