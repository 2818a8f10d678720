"""Processes of our own: started as a module, they call the parent, and they end with it.

A module that is started so also works from unguarded scripts, notebooks and IPython.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from time import monotonic
from typing import IO

from xt_backend.errors import BackendDiedError

__all__ = ["accept", "calling_parent", "died", "end_child", "ending_of", "start_child"]

_log = logging.getLogger(__name__)

POLL_S = 0.2

CALLED_S = 900.0
"""How long a child may take to call: packages on a busy network disk take minutes to load."""

_WOKEN_S = 1.0

KILLED_S = 30.0
"""How long the end of a killed process is waited for."""


def start_child(
    module: str,
    address: str,
    key: bytes,
    *,
    environment: Mapping[str, str] | None = None,
    errors: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a module that serves its parent through `calling_parent`.

    Args:
        module: With a function that is called when it is run.
        address: Of the listener that waits for its call.
        key: That the child shows.
        environment: Variables on top of this process's own.
        errors: Takes the child's stderr; this process's own takes it when None.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=None if environment is None else {**os.environ, **environment},
    )
    assert child.stdin is not None
    # Through stdin, which other users of the machine cannot read, unlike arguments. It stays
    # open: its end tells the child that the parent is gone.
    child.stdin.write(f"{address}\n{key.hex()}\n".encode())
    child.stdin.flush()
    return child


def accept(
    listener: Listener, child: subprocess.Popen[bytes], limit_s: float = CALLED_S
) -> Connection:
    """Wait for a child's call, but not for ever when it died or hangs while starting.

    Who calls without the key is turned away, and the child is waited for as before.

    Args:
        listener: To which the child was sent; the caller closes it.
        child: Started a moment ago; one that does not call is killed.
        limit_s: How long it may take to call.

    Raises:
        BackendDiedError: It did not call.
    """
    calls: queue.Queue[Connection] = queue.Queue()
    left = threading.Event()

    def listen() -> None:
        while not left.is_set():
            try:
                calls.put(listener.accept())
            except Exception as error:
                if not left.is_set():
                    _log.warning("a call was turned away: %s", type(error).__name__)
                # Where a call cannot even be taken, say for want of handles, not without rest.
                left.wait(POLL_S)
            else:
                return

    listening = threading.Thread(target=listen, name="xt-calls", daemon=True)
    listening.start()
    until = monotonic() + limit_s
    while True:
        try:
            return calls.get(timeout=POLL_S)
        except queue.Empty:
            # It may have called just before it ended; what it said can still be read.
            if calls.empty() and (child.poll() is not None or monotonic() > until):
                break
    left.set()
    _wake(listener, listening)
    if child.poll() is not None:
        raise died(child)
    child.kill()
    raise BackendDiedError(
        f"The backend process did not start within {limit_s / 60:g} min",
        "Run again when the machine, or the disk with the program, is less busy",
    )


def _wake(listener: Listener, listening: threading.Thread) -> None:
    """Let a thread end that waits for a call: closing the listener alone does not wake it."""

    def call() -> None:
        with suppress(OSError, EOFError):
            Client(listener.address).close()

    # Beside: where the thread is held by a stranger who says nothing, nobody answers this either.
    threading.Thread(target=call, name="xt-calls-wake", daemon=True).start()
    listening.join(_WOKEN_S)


def end_child(child: subprocess.Popen[bytes], patience_s: float) -> None:
    """Wait for the end of a child that has been told to, then kill it.

    One that not even that ends, as it waits for a disk that is gone, is left behind.

    Args:
        child: The child; it may have ended.
        patience_s: How long it may take.
    """
    try:
        child.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=KILLED_S)
    if child.stdin is not None:
        child.stdin.close()


def ending_of(child: subprocess.Popen[bytes] | None) -> str:
    """How a child ended, in words: ``signal 9`` or ``exit code 1``."""
    code = None if child is None else child.poll()
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def died(child: subprocess.Popen[bytes] | None) -> BackendDiedError:
    """What to say of a child that is gone."""
    return BackendDiedError(
        f"The backend process ended unexpectedly ({ending_of(child)})",
        "Run again: it is restarted, and regions that were stored are not encoded again",
    )


@contextmanager
def calling_parent() -> Iterator[Connection]:
    """The connection to the parent, in a child; this process ends with it at the latest."""
    # Ctrl-C reaches all processes of a terminal; the parent knows what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    address = sys.stdin.buffer.readline().decode().strip()
    key = bytes.fromhex(sys.stdin.buffer.readline().decode().strip())
    with Client(address, authkey=key) as connection:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        yield connection
    # Work may be inside a long C call; what is on the disk is safe at any moment.
    os._exit(0)


def _end_with_parent() -> None:
    """End as soon as the parent's end of stdin closes, however the parent died."""
    sys.stdin.buffer.read()
    os._exit(0)
