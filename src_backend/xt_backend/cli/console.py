"""What the command line prints: JSON on stdout, everything for people on stderr or stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["complain", "print_json", "progress_bar", "say"]

_err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, *, quiet: bool = False) -> None:
    """Print a line for people on stdout."""
    if not quiet:
        print(text)


def note(text: str) -> None:
    """Print a line for people on stderr."""
    _err.print(Text(text))


def complain(text: str) -> None:
    """Print an error on stderr."""
    _err.print(Text(f"Error: {text}", style="bold red" if _err.is_terminal else ""))


def print_json(value: Any) -> None:
    """Print the one JSON object of a command on stdout."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=1, allow_nan=False)
    sys.stdout.write("\n")


class _RateColumn(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        rate = task.fields.get("rate") or task.speed
        return Text(f"{rate:.1f}/s" if rate else "", style="progress.data.speed")


@contextmanager
def progress_bar(enabled: bool = True) -> Iterator[Progress]:
    """A bar on stderr with count, rate and time left."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=_err,
        disable=not enabled,
    ) as progress:
        yield progress
