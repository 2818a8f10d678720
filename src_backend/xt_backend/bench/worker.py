"""A process that answers jobs: a line in, one line of JSON out."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import IO, Any

from xt_backend.errors import EngineError

__all__ = ["Worker", "open_worker"]

_WAY_OUT = "See the messages above, or leave this benchmark out"


class Worker:
    """The other end of the pipes.

    Args:
        process: With text pipes for stdin and stdout.
        messages: What it writes to stderr; None where that goes to the terminal.
        limit_s: It is ended when an answer takes longer.
    """

    def __init__(
        self, process: subprocess.Popen[str], messages: IO[bytes] | None, limit_s: float
    ) -> None:
        self._process = process
        self._messages = messages
        self._limit_s = limit_s

    def ask(self, job: str) -> dict[str, Any]:
        """Give it a line and wait for the answer.

        Raises:
            EngineError: It ended without one, took too long, or answers with what ``failed``.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise TypeError("a process without pipes")
        started = time.monotonic()
        timer = Timer(self._limit_s, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            self._process.stdin.write(job + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            found: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            raise self._end(time.monotonic() - started >= self._limit_s) from error
        finally:
            timer.cancel()
        if "failed" in found:
            raise EngineError(found["failed"], _WAY_OUT)
        return found

    def _end(self, late: bool) -> EngineError:
        self._process.kill()
        code = self._process.wait()
        if late:
            return EngineError(f"No answer within {self._limit_s:g} s", _WAY_OUT)
        said = ""
        if self._messages is not None:
            self._messages.seek(0)
            lines = self._messages.read().decode(errors="replace").split("\n")
            said = next((f": {line.strip()}" for line in reversed(lines) if line.strip()), "")
        return EngineError(f"It ended with code {code}{said}", _WAY_OUT)


@contextmanager
def open_worker(
    command: Sequence[str],
    asked: Mapping[str, Any],
    variables: Mapping[str, str],
    *,
    quiet: bool = False,
    limit_s: float = 24 * 3600,
) -> Iterator[Worker]:
    """A process that is ready; it ends with the ``with`` block.

    Args:
        command: The program and its arguments.
        asked: Its first line; the answer says that it is ready.
        variables: Its whole environment.
        quiet: Keep what it writes to stderr off the terminal.
        limit_s: See `Worker`.

    Raises:
        OSError: The program cannot be started.
        EngineError: It was not ready.
    """
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages if quiet else None,
            encoding="utf-8",
            errors="replace",
            env=dict(variables),
        ) as process,
    ):
        try:
            worker = Worker(process, messages if quiet else None, limit_s)
            worker.ask(json.dumps(asked))
            yield worker
        finally:
            process.kill()
            assert process.stdin is not None
            # What it had not read goes nowhere; the error that ended it is the one to be told.
            with contextlib.suppress(OSError):
                process.stdin.close()
