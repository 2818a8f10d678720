"""Processes of our own: started as a module, they call the parent, and they end with it.

A module that is started so also works from unguarded scripts, notebooks and IPython.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import IO

from xt_backend.errors import BackendDiedError

__all__ = ["accept", "calling_parent", "died", "end_child", "ending_of", "start_child"]

POLL_S = 0.2

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


def accept(listener: Listener, child: subprocess.Popen[bytes]) -> Connection:
    """Wait for a child's call, but not for ever when it died while starting.

    Raises:
        BackendDiedError: It did.
    """
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
            raise died(child)
    if not answer:
        raise died(child)
    return answer[0]


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
