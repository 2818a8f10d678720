"""The command line in processes of its own, as users run it, but with torch loaded only once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

__all__ = ["Command", "no_setup"]


def no_setup() -> None:
    """Changes nothing about the process."""


class Command:
    """``napari-xt`` with some arguments, running.

    Each is forked from a process that has imported what a run needs and computed nothing: it
    dies, is limited and listens to signals like one that was started from a shell.

    Args:
        arguments: Of ``napari-xt``.
        log: Gets what it prints; its folder must exist.
        setup: Called in the new process first; a module's function, or a partial one.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        log: Path,
        setup: Callable[[], None] = no_setup,
    ) -> None:
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "timm", "xt_backend.cli", "xt_backend.batch"])
        self._log = log
        self._process: BaseProcess = context.Process(
            target=_run, args=([str(argument) for argument in arguments], str(log), setup)
        )
        self._process.start()

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()

    def end(self, timeout_s: float = 600) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise TimeoutError(f"still running after {timeout_s} s: {self.said}")
        code = self._process.exitcode
        self._process.close()
        assert code is not None
        return code

    @property
    def said(self) -> str:
        """Everything that it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")


def _run(arguments: list[str], log: str, setup: Callable[[], None]) -> None:
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ["COLUMNS"] = "200"
    sys.argv = ["napari-xt", *arguments]
    setup()
    from xt_backend.cli import main

    main(arguments)
