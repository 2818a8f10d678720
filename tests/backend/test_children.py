"""Waiting for the call of a process of our own, whoever else calls."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

import pytest

from xt_backend.children import accept
from xt_backend.errors import BackendDiedError

KEY = b"k" * 32
PATIENCE_S = 120.0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Lives until its stdin closes, and calls nobody."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def nobody_listens() -> bool:
    """The threads that waited for a call have ended."""
    until = time.monotonic() + PATIENCE_S
    while any(thread.name.startswith("xt-calls") for thread in threading.enumerate()):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_strangers_are_turned_away_until_the_child_calls(
    child: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    heard: list[Connection] = []
    with Listener(authkey=KEY) as listener:
        waiting = threading.Thread(
            target=lambda: heard.append(accept(listener, child, PATIENCE_S)), daemon=True
        )
        waiting.start()
        with pytest.raises(AuthenticationError):
            Client(listener.address, authkey=b"another")
        with Client(listener.address) as nonsense:
            nonsense.send_bytes(bytes(1000))  # more than is taken of an answer
        Client(listener.address).close()
        with Client(listener.address, authkey=KEY) as true:
            waiting.join(PATIENCE_S)
            true.send("here")
            assert heard
            assert heard[0].recv() == "here"
    assert nobody_listens()
    assert "another" not in caplog.text
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "a call was turned away: AuthenticationError"
    assert len(said) == 3


def test_a_child_that_does_not_call_is_ended(child: subprocess.Popen[bytes]) -> None:
    with (
        Listener(authkey=KEY) as listener,
        pytest.raises(BackendDiedError, match="did not start within"),
    ):
        accept(listener, child, 0.3)
    assert child.wait(PATIENCE_S) != 0
    assert nobody_listens()


def test_a_child_that_ends_before_it_called_is_told(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    with (
        Listener(authkey=KEY) as listener,
        pytest.raises(BackendDiedError, match="ended unexpectedly"),
    ):
        accept(listener, child)
    assert nobody_listens()
