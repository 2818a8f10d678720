"""The process that speaks with a Ray cluster for the runs of its parent. Started by `Link`.

In a process of its own, since Ray ends the process in which it is when it loses its cluster.
"""

from __future__ import annotations

import logging
import pickle
import queue
import re
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from xt_backend.children import calling_parent
from xt_backend.errors import DeviceError, EngineError, XTError

from .cluster import Pulse, alive_nodes, connect, last_line
from .messages import Answered, Ask, Broke, Connect, Content

__all__ = ["main"]

_CPUS = 4
"""Cores of a worker that has no GPU."""
_AT_ONCE = 6
"""Questions that a worker hears at the same time: it reads for one while it encodes another."""
_POLL_S = 0.5
_LOST = "Start it again and run again: what is encoded is kept"

Message = Answered | Broke | None


class Member:
    """An actor: a `Host` that Ray can call."""

    def __init__(self) -> None:
        from .host import Host  # with torch, which this process has no use for

        self._host = Host()

    def do(self, what: str, arguments: tuple[Any, ...]) -> bytes:
        """Call a method; what cannot be done is an answer, too. The run unpickles it."""
        try:
            answer = self._host.method(what)(*arguments)
        except XTError as error:
            answer = error
        return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)


class _Switchboard:
    def __init__(self, connection: Connection, address: str, gpu: bool, cpus: int) -> None:
        self._connection = connection
        self._pulse = Pulse(address, _LOST)
        self._out: queue.SimpleQueue[Message] = queue.SimpleQueue()
        # A worker on the processor shall see no GPU, and say so as one without does.
        hidden = None if gpu else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        self._actor: Any = (
            ray.remote(Member)
            .options(num_cpus=cpus, num_gpus=int(gpu), max_concurrency=_AT_ONCE, runtime_env=hidden)
            .remote()
        )

    def serve(self) -> None:
        """Pass questions and answers on until the parent is gone, or the cluster."""
        threading.Thread(target=self._hear, daemon=True).start()
        while True:
            try:
                message = self._out.get(timeout=_POLL_S)
            except queue.Empty:
                self._pulse.check()
                continue
            if message is None:
                return
            self._connection.send(message)
            if isinstance(message, Broke):
                return

    def _hear(self) -> None:
        try:
            while True:
                ask: Ask | None = self._connection.recv()
                if ask is None:
                    self._out.put(None)
                    return
                arguments = tuple(
                    one.path.read_bytes() if isinstance(one, Content) else one
                    for one in ask.arguments
                )
                answer = self._actor.do.remote(ask.what, arguments).future()
                answer.add_done_callback(partial(self._answered, ask.number))
        except (EOFError, OSError) as error:
            self._out.put(None if isinstance(error, EOFError) else Broke(_unexpected(error)))
        except Exception as error:
            self._out.put(Broke(_unexpected(error)))

    def _answered(self, number: int, answer: Any) -> None:
        error = answer.exception()
        if error is None:
            self._out.put(Answered(number, answer.result()))
        else:
            self._out.put(Broke(_failure(error)))


def _failure(error: BaseException) -> EngineError:
    """What to say of a worker that has not answered."""
    everywhere = "Install the same napari-xt on all machines of the cluster"
    if isinstance(error, RayTaskError):
        return EngineError(f"The worker of Ray cannot work: {last_line(error)}", everywhere)
    if isinstance(error, RayActorError):
        if type(error.__cause__) is RayTaskError or "creation task" in str(error):
            return EngineError(f"The worker of Ray cannot start: {last_line(error)}", everywhere)
        text = " ".join(str(error).split())
        found = re.search(r"The actor is dead because ([^.]*)", text)
        return EngineError(
            f"The worker of Ray was lost: {found.group(1).strip() if found else text[:200]}",
            "Run again: another is asked for, and what is encoded is kept",
        )
    return _unexpected(error)


def _unexpected(error: BaseException) -> EngineError:
    return EngineError(
        f"The Ray cluster cannot be used any more: {type(error).__name__}: {last_line(error)}",
        "Run again: what is encoded is kept",
    )


def _share(device: str) -> tuple[bool, int]:
    """Whether the worker gets a GPU, and how many cores.

    Raises:
        DeviceError: The cluster never has room for it.
    """
    nodes = alive_nodes()
    gpu = device != "cpu" and any(node.get("GPU", 0) >= 1 for node in nodes)
    if device.startswith("cuda") and not gpu:
        raise DeviceError(
            "The Ray cluster has no GPU", "Choose auto or cpu as device, or add a machine to it"
        )
    cpus = max((int(n.get("CPU", 0)) for n in nodes if not gpu or n.get("GPU")), default=0)
    if not (cpus or gpu):
        raise DeviceError(
            "The Ray cluster has no processor to work on", "Add a machine to it with ray start"
        )
    return gpu, min(_CPUS, cpus)


def main() -> None:
    """Connect to a cluster, then pass on what is asked."""
    logging.disable(logging.WARNING)  # Ray's own, which nobody asked for
    with calling_parent() as connection:
        try:
            _work(connection)
        except XTError as error:
            connection.send(Broke(error))
        except EOFError:
            pass  # the parent wants no more
        finally:
            _quietly(ray.shutdown)


def _work(connection: Connection) -> None:
    wanted: Connect = connection.recv()
    address = connect(wanted.address)
    gpu, cpus = _share(wanted.device)
    _Switchboard(connection, address, gpu, cpus).serve()


def _quietly(end: Callable[[], None]) -> None:
    """The cluster may be gone, and this process ends anyway."""
    try:
        end()
    except Exception:
        logging.getLogger(__name__).debug("Ray cannot be left", exc_info=True)


if __name__ == "__main__":
    main()
