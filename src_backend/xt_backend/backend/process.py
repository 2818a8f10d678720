"""A worker in a process of its own: the parent's side."""

from __future__ import annotations

import logging
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, Listener
from typing import TypeVar

from xt_backend.engine.events import Event, RunFailed, RunFinished
from xt_backend.engine.spec import RunSpec
from xt_backend.errors import BackendDiedError, XTError

from .messages import Answer, AskDevice, Cancel, Close, DeviceChoice, Happened, Submit

__all__ = ["ProcessWorker"]

Item = TypeVar("Item")

_log = logging.getLogger(__name__)

POLITE_S = 2.0
"""How long `close` waits before it kills the child."""

POLL_S = 0.2


class ProcessWorker:
    """Owns one child process; a dead child is replaced with the next run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._runs: dict[str, queue.Queue[Event]] = {}
        self._questions: dict[str, queue.Queue[DeviceChoice | XTError]] = {}
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the child while it lives."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def submit(self, spec: RunSpec) -> Iterator[Event]:
        """Hand a run to the child and yield its events; see `Backend.submit`."""
        inbox: queue.Queue[Event] = queue.Queue()
        try:
            with self._lock:
                if self._closed:
                    raise BackendDiedError("The backend is closed", "Open a new one")
                child, connection = self._ensure_child()
                self._runs[spec.run_id] = inbox
                connection.send(Submit(spec))
        except (OSError, XTError) as error:
            self._runs.pop(spec.run_id, None)
            failure = error if isinstance(error, XTError) else _died(self._child)
            yield RunFailed(spec.run_id, failure)
            return
        try:
            yield from self._follow(spec, inbox, child)
        finally:
            self._runs.pop(spec.run_id, None)

    def device(self, asked: str, precision: str) -> DeviceChoice:
        """Ask the child; see `Backend.device`."""
        question = AskDevice(secrets.token_hex(8), asked, precision)
        inbox: queue.Queue[DeviceChoice | XTError] = queue.Queue()
        self._questions[question.question_id] = inbox
        try:
            with self._lock:
                if self._closed:
                    raise BackendDiedError("The backend is closed", "Open a new one")
                child, connection = self._ensure_child()
                connection.send(question)
            answer = _next(inbox, child)
        except OSError:
            answer = None
        finally:
            del self._questions[question.question_id]
        if answer is None:
            raise _died(self._child)
        if isinstance(answer, XTError):
            raise answer
        return answer

    def _follow(
        self, spec: RunSpec, inbox: queue.Queue[Event], child: subprocess.Popen[bytes]
    ) -> Iterator[Event]:
        while True:
            event = _next(inbox, child)
            if event is None:
                yield RunFailed(spec.run_id, _died(child))
                return
            yield event
            if isinstance(event, RunFinished | RunFailed):
                return

    def cancel(self, run_id: str) -> None:
        """Pass a cancel on; see `Backend.cancel`."""
        with self._lock:
            if self._connection is not None and run_id in self._runs:
                self._send_quietly(Cancel(run_id))

    def close(self) -> None:
        """End the child, politely and then not."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
            if child is None:
                return
            self._send_quietly(Close())
        try:
            child.wait(timeout=POLITE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()

    def _send_quietly(self, message: Cancel | Close) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send(message)
        except OSError:  # the child is gone; whoever follows a run is told by its exit
            self._connection = None

    def _ensure_child(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._child is not None and self._child.poll() is None and self._connection is not None:
            return self._child, self._connection
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
        key = secrets.token_bytes(32)
        with Listener(authkey=key) as listener:
            child = _start_child(str(listener.address), key)
            connection = _accept(listener, child)
        self._child, self._connection = child, connection
        threading.Thread(
            target=self._receive, args=(connection, child), name="xt-backend-events", daemon=True
        ).start()
        return child, connection

    def _receive(self, connection: Connection, child: subprocess.Popen[bytes]) -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                return
            except Exception as error:
                # What a run said is lost, perhaps its end: nobody shall wait for it.
                _log.exception("an answer of the backend process cannot be read")
                self._give_up(connection, child, error)
                return
            if isinstance(message, Happened):
                inbox = self._runs.get(message.event.run_id)
                if inbox is not None:
                    inbox.put(message.event)
            elif isinstance(message, Answer):
                question = self._questions.get(message.question_id)
                if question is not None:
                    question.put(message.content)

    def _give_up(
        self, connection: Connection, child: subprocess.Popen[bytes], error: Exception
    ) -> None:
        """Fail all that waits for a child and end it; the next run gets a new one."""
        failure = BackendDiedError(
            f"An answer of the backend process cannot be read ({type(error).__name__}: {error})",
            "Run again: it is restarted, and regions that were stored are not encoded again",
        )
        with self._lock:
            if self._connection is connection:
                self._connection = None
            for run_id, inbox in list(self._runs.items()):
                inbox.put(RunFailed(run_id, failure))
            for question in list(self._questions.values()):
                question.put(failure)
        child.kill()
        child.wait()


def _next(inbox: queue.Queue[Item], child: subprocess.Popen[bytes]) -> Item | None:
    """What comes next from the child, None once it is dead and has left nothing."""
    while True:
        try:
            return inbox.get(timeout=POLL_S)
        except queue.Empty:
            # The receiver may still be emptying the pipe of a child that has just ended.
            if child.poll() is not None and inbox.empty():
                return None


def _start_child(address: str, key: bytes) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-m", "xt_backend.backend.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    # Through stdin, which other users of the machine cannot read, unlike arguments. It stays
    # open: its end tells the child that the parent is gone.
    child.stdin.write(f"{address}\n{key.hex()}\n".encode())
    child.stdin.flush()
    return child


def _accept(listener: Listener, child: subprocess.Popen[bytes]) -> Connection:
    """Wait for the child's call, but not for ever when it died while starting."""
    answer: list[Connection] = []

    def wait() -> None:
        try:
            answer.append(listener.accept())
        except OSError:
            return

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    while waiter.is_alive():
        waiter.join(POLL_S)
        if child.poll() is not None and not answer:
            raise _died(child)
    if not answer:
        raise _died(child)
    return answer[0]


def _died(child: subprocess.Popen[bytes] | None) -> BackendDiedError:
    code = None if child is None else child.poll()
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return BackendDiedError(
        f"The backend process ended unexpectedly ({how})",
        "Run again: it is restarted, and regions that were stored are not encoded again",
    )
