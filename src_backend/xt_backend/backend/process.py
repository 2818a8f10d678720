"""A worker in a process of its own: the parent's side."""

from __future__ import annotations

import logging
import queue
import secrets
import subprocess
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, Listener
from typing import TypeVar

from xt_backend.children import POLL_S, accept, died, end_child, start_child
from xt_backend.engine.elsewhere import Elsewhere
from xt_backend.engine.events import JobFinished, RunFailed, RunFinished
from xt_backend.errors import BackendDiedError, XTError

from .jobs import AnyEvent, Work
from .messages import Answer, AskDevice, Cancel, Close, DeviceChoice, Happened, Submit
from .run_events import RunEvents, closed_error, closed_run

__all__ = ["ProcessWorker"]

Item = TypeVar("Item")

_log = logging.getLogger(__name__)

POLITE_S = 2.0
"""How long `close` waits before it kills the child."""


@dataclass(eq=False)
class _Run:
    """A run that was submitted, until its events are left."""

    inbox: queue.Queue[AnyEvent] = field(default_factory=queue.Queue)
    sent: bool = False
    cancelled: bool = False
    ended: bool = False


class ProcessWorker:
    """Owns one child process; a dead child is replaced with the next run."""

    def __init__(self) -> None:
        # Guards what follows and what is sent, never held for long: a cancel does not wait for a
        # child that starts. Reentrant, as forgotten events may be left in the midst of anything.
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._runs: dict[str, _Run] = {}
        self._questions: dict[str, queue.Queue[DeviceChoice | XTError]] = {}
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the child while it lives."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def submit(self, spec: Work) -> Iterator[AnyEvent]:
        """Hand a run to the child; see `Backend.submit`. Waits while the child starts."""
        run = _Run()
        with self._lock:
            if self._closed:
                return closed_run(spec.run_id)
            self._runs[spec.run_id] = run
        try:
            child, connection = self._ensure_child()
            with self._lock:
                if self._closed:
                    raise closed_error()
                connection.send(Submit(spec))
                run.sent = True
                if run.cancelled:
                    self._send_quietly(Cancel(spec.run_id))
        except (OSError, XTError) as error:
            self._leave(spec.run_id, run)
            failure = error if isinstance(error, XTError) else died(self._child)
            return iter((RunFailed(spec.run_id, failure),))
        return RunEvents(_follow(spec.run_id, run, child), partial(self._leave, spec.run_id, run))

    def _leave(self, run_id: str, run: _Run) -> None:
        """Nobody follows a run any more: stop it where it has not ended."""
        with self._lock:
            if self._runs.get(run_id) is not run:
                return
            del self._runs[run_id]
            if run.sent and not run.ended:
                self._send_quietly(Cancel(run_id))
        # Another thread may still wait for the next event, and no more will come.
        run.inbox.put(RunFailed(run_id, closed_error()))

    def device(
        self, asked: str, precision: str, elsewhere: Elsewhere | None = None
    ) -> DeviceChoice:
        """Ask the child; see `Backend.device`."""
        question = AskDevice(secrets.token_hex(8), asked, precision, elsewhere)
        inbox: queue.Queue[DeviceChoice | XTError] = queue.Queue()
        self._questions[question.question_id] = inbox
        try:
            child, connection = self._ensure_child()
            with self._lock:
                if self._closed:
                    raise closed_error()
                connection.send(question)
            answer = _next(inbox, child)
        except OSError:
            answer = None
        finally:
            del self._questions[question.question_id]
        if answer is None:
            raise died(self._child)
        if isinstance(answer, XTError):
            raise answer
        return answer

    def cancel(self, run_id: str) -> None:
        """Pass a cancel on; see `Backend.cancel`."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return
            run.cancelled = True
            if run.sent:
                self._send_quietly(Cancel(run_id))

    def close(self) -> None:
        """End the child, politely and then not; one that is just starting is killed."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
            if child is None:
                return
            if self._connection is None:
                child.kill()
            self._send_quietly(Close())
        end_child(child, POLITE_S)

    def _send_quietly(self, message: Cancel | Close) -> None:
        if self._connection is None:
            return
        try:
            self._connection.send(message)
        except OSError:  # the child is gone; whoever follows a run is told by its exit
            self._connection = None

    def _ensure_child(self) -> tuple[subprocess.Popen[bytes], Connection]:
        """The child, started if there is none; only one is, whoever asks meanwhile.

        Raises:
            BackendDiedError: The worker is closed, or the child does not start.
            OSError: There can be no process.
        """
        with self._starting:
            with self._lock:
                if self._closed:
                    raise closed_error()
                child, connection = self._child, self._connection
                if child is not None and child.poll() is None and connection is not None:
                    return child, connection
                if child is not None and child.stdin is not None:
                    child.stdin.close()
                self._child = self._connection = None
            key = secrets.token_bytes(32)
            with Listener(authkey=key) as listener:
                child = start_child("xt_backend.backend.child", str(listener.address), key)
                with self._lock:
                    self._child = child
                    if self._closed:
                        self.close()
                try:
                    connection = accept(listener, child)
                except XTError as error:
                    raise (closed_error() if self._closed else error) from error
            with self._lock:
                if self._closed:
                    raise closed_error()
                self._connection = connection
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
                run = self._runs.get(message.event.run_id)
                if run is not None:
                    run.inbox.put(message.event)
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
            for run_id, run in list(self._runs.items()):
                run.inbox.put(RunFailed(run_id, failure))
            for question in list(self._questions.values()):
                question.put(failure)
        child.kill()
        child.wait()


def _follow(
    run_id: str, run: _Run, child: subprocess.Popen[bytes]
) -> Generator[AnyEvent, None, None]:
    while not run.ended:
        event = _next(run.inbox, child) or RunFailed(run_id, died(child))
        run.ended = isinstance(event, RunFinished | JobFinished | RunFailed)
        yield event


def _next(inbox: queue.Queue[Item], child: subprocess.Popen[bytes]) -> Item | None:
    """What comes next from the child, None once it is dead and has left nothing."""
    while True:
        try:
            return inbox.get(timeout=POLL_S)
        except queue.Empty:
            # The receiver may still be emptying the pipe of a child that has just ended.
            if child.poll() is not None and inbox.empty():
                return None
