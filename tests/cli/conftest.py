"""The command line, called in this process: torch is loaded once, not for every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from xt_backend.cli import main


@dataclass(frozen=True)
class Finished:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Finished]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs `napari-xt` with arguments."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Finished:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Finished(int(ended.value.code or 0), out, err)

    return run
