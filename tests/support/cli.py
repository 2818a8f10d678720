"""The command line, called in this process: torch is loaded once, not for every call."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Call", "Finished", "rows"]


@dataclass(frozen=True)
class Finished:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Call = Callable[..., Finished]


def rows(folder: Path) -> list[dict[str, str]]:
    """The cells of a run's slides.csv."""
    with (folder / "slides.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
