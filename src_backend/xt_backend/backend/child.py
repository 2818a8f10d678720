"""A worker in a process of its own: the child's side. Started by `ProcessWorker`."""

from __future__ import annotations

import logging
import os
import queue
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from xt_backend.children import calling_parent
from xt_backend.engine.events import RunFailed
from xt_backend.errors import EngineError, XTError

from .backend import chosen_device
from .cancellations import Cancellations
from .jobs import Work, events_of, is_question
from .messages import Answer, AskDevice, Cancel, Close, DeviceChoice, Happened, Submit

if TYPE_CHECKING:
    from xt_backend.engine import Engine

__all__ = ["main"]

_log = logging.getLogger(__name__)


class _Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._waiting: queue.Queue[Work | AskDevice] = queue.Queue()
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
                if is_question(message.spec):
                    threading.Thread(target=self._work_off, args=(message.spec,)).start()
                else:
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
                self._tell(Answer(work.question_id, self._answer(work)))
                continue
            self._work_off(work)

    def _answer(self, question: AskDevice) -> DeviceChoice | XTError:
        try:
            return chosen_device(
                question.device, question.precision, question.elsewhere, self._ready_engine
            )
        except XTError as error:
            return error
        except Exception as error:
            _log.exception("no device can be chosen")
            return _cannot_work(error)

    def _work_off(self, work: Work) -> None:
        try:
            self._run(work)
        except Exception as error:
            _log.exception("run failed")
            self._tell(Happened(RunFailed(work.run_id, _cannot_work(error))))
        finally:
            self._asked.end(work.run_id)

    def _run(self, work: Work) -> None:
        for event in events_of(
            work, self._ready_engine, lambda: self._asked.cancelled(work.run_id)
        ):
            self._send(Happened(event))

    def _ready_engine(self) -> Engine:
        # Loaded with the first run: whatever is wrong with torch is told as an event.
        from xt_backend.engine import Engine

        if self._engine is None:
            self._engine = Engine()
        return self._engine

    def _send(self, message: Happened | Answer) -> None:
        with self._sending:  # questions are answered beside runs
            self._connection.send(message)

    def _tell(self, message: Happened | Answer) -> None:
        """Send what the parent waits for, or end, which it sees too."""
        try:
            self._send(message)
        except Exception:
            _log.exception("the parent cannot be reached")
            os._exit(1)


def _cannot_work(error: Exception) -> EngineError:
    return EngineError(
        f"The backend process cannot work: {type(error).__name__}: {error}",
        "Run again; if that does not help, napari-xt doctor shows what is wrong",
    )


def main() -> None:
    """Connect to the parent and serve it."""
    with calling_parent() as connection:
        _Child(connection).serve()


if __name__ == "__main__":
    main()
