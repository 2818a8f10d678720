"""A worker in a process of its own: the child's side. Started by `ProcessWorker`."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
from multiprocessing.connection import Client, Connection
from typing import TYPE_CHECKING

from xt_backend.engine.events import RunFailed
from xt_backend.engine.spec import RunSpec
from xt_backend.errors import EngineError, XTError

from .backend import chosen_device
from .cancellations import Cancellations
from .messages import Answer, AskDevice, Cancel, Close, DeviceChoice, Happened, Submit

if TYPE_CHECKING:
    from xt_backend.engine import Engine

__all__ = ["main"]

_log = logging.getLogger(__name__)


class _Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: queue.Queue[RunSpec | AskDevice] = queue.Queue()
        self._asked = Cancellations()
        self._engine: Engine | None = None

    def serve(self) -> None:
        """Take commands until the parent closes or is gone."""
        threading.Thread(target=self._work, name="xt-backend-runs", daemon=True).start()
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Submit):
                self._asked.begin(message.spec.run_id)
                self._waiting.put(message.spec)
            elif isinstance(message, AskDevice):
                self._waiting.put(message)
            elif isinstance(message, Cancel):
                self._asked.cancel(message.run_id)
            elif isinstance(message, Close):
                return

    def _work(self) -> None:
        """Work runs off; every one of them ends with an event or with this process."""
        while True:
            work = self._waiting.get()
            if isinstance(work, AskDevice):
                self._tell(Answer(work.question_id, _answer(work)))
                continue
            try:
                self._run(work)
            except Exception as error:
                _log.exception("run failed")
                self._tell(Happened(RunFailed(work.run_id, _cannot_work(error))))
            finally:
                self._asked.end(work.run_id)

    def _run(self, spec: RunSpec) -> None:
        # Loaded with the first run: whatever is wrong with torch is told as an event.
        from xt_backend.engine import Engine

        if self._engine is None:
            self._engine = Engine()
        for event in self._engine.run(spec, lambda: self._asked.cancelled(spec.run_id)):
            self._connection.send(Happened(event))

    def _tell(self, message: Happened | Answer) -> None:
        """Send what the parent waits for, or end, which it sees too."""
        try:
            self._connection.send(message)
        except Exception:
            _log.exception("the parent cannot be reached")
            os._exit(1)


def _answer(question: AskDevice) -> DeviceChoice | XTError:
    try:
        return chosen_device(question.device, question.precision)
    except XTError as error:
        return error
    except Exception as error:
        _log.exception("no device can be chosen")
        return _cannot_work(error)


def _cannot_work(error: Exception) -> EngineError:
    return EngineError(
        f"The backend process cannot work: {type(error).__name__}: {error}",
        "Run again; if that does not help, napari-xt doctor shows what is wrong",
    )


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
