"""A worker in a process of its own: the child's side. Started by `ProcessWorker`."""

from __future__ import annotations

import os
import queue
import sys
import threading
from multiprocessing.connection import Client, Connection
from typing import TYPE_CHECKING

from xt_backend.engine.spec import RunSpec
from xt_backend.errors import XTError

from .backend import chosen_device
from .messages import Answer, AskDevice, Cancel, Close, DeviceChoice, Happened, Submit

if TYPE_CHECKING:
    from xt_backend.engine import Engine

__all__ = ["main"]


class _Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()
        self._waiting: queue.Queue[RunSpec | AskDevice] = queue.Queue()
        self._cancelled: set[str] = set()

    def serve(self) -> None:
        """Take commands until the parent closes or is gone."""
        threading.Thread(target=self._work, name="xt-backend-runs", daemon=True).start()
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Submit):
                self._waiting.put(message.spec)
            elif isinstance(message, AskDevice):
                self._waiting.put(message)
            elif isinstance(message, Cancel):
                self._cancelled.add(message.run_id)
            elif isinstance(message, Close):
                return

    def _work(self) -> None:
        from xt_backend.engine import Engine

        engine = Engine()
        while True:
            work = self._waiting.get()
            if isinstance(work, AskDevice):
                self._send(Answer(work.question_id, _answer(work)))
            else:
                self._run(engine, work)

    def _run(self, engine: Engine, spec: RunSpec) -> None:
        for event in engine.run(spec, lambda: spec.run_id in self._cancelled):
            self._send(Happened(event))
        self._cancelled.discard(spec.run_id)

    def _send(self, message: Happened | Answer) -> None:
        with self._send_lock:
            self._connection.send(message)


def _answer(question: AskDevice) -> DeviceChoice | XTError:
    try:
        return chosen_device(question.device, question.precision)
    except XTError as error:
        return error


def _end_with_parent() -> None:
    """End as soon as the parent's end of stdin closes, however the parent died."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Connect to the parent and serve it."""
    address = sys.stdin.buffer.readline().decode().strip()
    key = bytes.fromhex(sys.stdin.buffer.readline().decode().strip())
    with Client(address, authkey=key) as connection:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _Child(connection).serve()
    # A run may be inside a long C call; the region store is safe at any moment.
    os._exit(0)


if __name__ == "__main__":
    main()
