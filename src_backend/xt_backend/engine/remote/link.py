"""The way to a worker on a Ray cluster: the side of the runs."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import pickle
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from xt_backend.children import accept, end_child, ending_of, start_child
from xt_backend.errors import EngineError, UsageError, XTError

from ..elsewhere import check_listening
from .messages import Answered, Ask, Broke, Connect

__all__ = ["Answer", "Link", "NotWantedError"]

_POLL_S = 0.05
_END_S = 5.0
"""How long the process may take to end in good order."""
_ALWAYS = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray then listens on 127.0.0.1 only, as it does by default on Windows and macOS."""
_MODE = "RAY_AUTH_MODE"
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class NotWantedError(Exception):
    """The run was cancelled while it waited for an answer."""


class Answer:
    """What a worker will have answered."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._content: Any = None

    def give(self, content: Any) -> None:
        """Take what came."""
        if not self._came.is_set():
            self._content = content
            self._came.set()

    def get(self, cancelled: Callable[[], bool], timeout_s: float | None = None) -> Any:
        """Wait for it.

        Args:
            cancelled: Asked all the time.
            timeout_s: How long at most; None for as long as the cluster is there.

        Raises:
            NotWantedError: It was cancelled before.
            XTError: What the worker, or the process that speaks with it, says is wrong.
            TimeoutError: Nothing has come.
        """
        began = time.monotonic()
        while not self._came.wait(_POLL_S):
            if cancelled():
                raise NotWantedError
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise TimeoutError
        if isinstance(self._content, XTError):
            raise self._content
        return self._content


class Link:
    """A process that speaks with a cluster, and through it one worker there.

    Args:
        address: HOST:PORT or ``auto``.
        device: As of `EncodingOptions`; decides whether the worker gets a GPU.

    Attributes:
        address: As given.
        broken: What has ended it; None while it holds.

    Raises:
        UsageError: Ray is not installed, or there is no token.
        DeviceError: Nobody answers at the address.
        EngineError: The process cannot be started.
    """

    def __init__(self, address: str, device: str) -> None:
        _check_reach(address)
        self.address, self.device = address, device
        self.broken: XTError | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, Answer] = {}
        self._lock = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  until `close`
        self._connection, self._child = self._start()
        self._send(Connect(address, device))
        self._receiver = threading.Thread(target=self._receive, name="xt-remote", daemon=True)
        self._receiver.start()

    def _start(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        key = secrets.token_bytes(32)
        with Listener(authkey=key) as listener:
            child = start_child(
                "xt_backend.engine.remote.child",
                str(listener.address),
                key,
                environment=_environment(self.address),
                errors=self._said,
            )
            try:
                return accept(listener, child), child
            except XTError as error:
                raise self._ended(child) from error

    def ask(self, what: str, *arguments: Any) -> Answer:
        """Let the worker do something.

        Args:
            what: A method of `Host`.
            arguments: Of it.
        """
        answer = Answer()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = answer
        self._send(Ask(number, what, arguments))
        if self.broken is not None:
            answer.give(self.broken)
        return answer

    def _send(self, message: Connect | Ask) -> None:
        with self._lock:
            if self.broken is not None:
                return
            with contextlib.suppress(OSError):  # the receiver sees it too, and says why
                self._connection.send(message)

    def _receive(self) -> None:
        while True:
            try:
                message = self._connection.recv()
                if isinstance(message, Answered):
                    self._take(message)
                    continue
            except (EOFError, OSError):
                self._break(self._ended(self._child))
                return
            except Exception as error:
                self._break(
                    EngineError(
                        f"An answer of the Ray cluster cannot be read: {type(error).__name__}",
                        "Install the same napari-xt on all machines, then run again",
                    )
                )
                return
            if isinstance(message, Broke):
                self._break(message.error)
                return

    def _take(self, message: Answered) -> None:
        # Of a worker that Ray has authenticated, by way of a child of our own.
        content = pickle.loads(message.answer)  # nosec B301
        with self._lock:
            answer = self._waiting.pop(message.number, None)
        if answer is not None:
            answer.give(content)

    def _break(self, why: XTError) -> None:
        if self.broken is None:
            self.broken = why
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        for answer in waiting:
            answer.give(self.broken)

    def _ended(self, child: subprocess.Popen[bytes]) -> EngineError:
        """Why the process is gone, in the words of Ray where it left some."""
        end_child(child, _END_S)
        lines: list[str] = []
        if not self._said.closed:
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
        why = f": {lines[-1].strip()[-300:]}" if lines else ""
        return EngineError(
            f"The process that speaks with Ray ended unexpectedly ({ending_of(child)}){why}",
            "Run again: what is encoded is kept",
        )

    def close(self) -> None:
        """End the process, and with it the worker."""
        self._break(EngineError("The way to the Ray cluster was closed", "Run again"))
        with self._lock, contextlib.suppress(OSError):
            self._connection.send(None)
        end_child(self._child, _END_S)
        self._receiver.join(_END_S)
        self._connection.close()
        self._said.close()


def _environment(address: str) -> dict[str, str]:
    """What the process is told besides: to show a token, and to be heard no further than needed."""
    alone = _LOOPBACK if _is_loopback(address.rpartition(":")[0]) else {}
    return {**_ALWAYS, **alone, _MODE: os.environ.get(_MODE, "token")}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_reach(address: str) -> None:
    """Refuse at once what Ray itself would try for minutes."""
    if find_spec("ray") is None:
        raise UsageError("Ray is not installed", 'Install it with pip install "napari-xt[ray]"')
    check_listening(address)
    if os.environ.get(_MODE, "token") == "token" and not _has_token():
        raise UsageError(
            f"There is no token for the Ray cluster at {address}",
            "Copy ~/.ray/auth_token from its first machine, where the command ray get-auth-token "
            "makes one; RAY_AUTH_MODE=disabled speaks with a cluster that asks for none",
        )


def _has_token() -> bool:
    return (
        any(os.environ.get(name) for name in _TOKENS)
        or (Path.home() / ".ray" / "auth_token").is_file()
    )
