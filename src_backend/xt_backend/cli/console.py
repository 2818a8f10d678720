"""What the command line prints: JSON on stdout, everything for people on stderr or stdout."""

from __future__ import annotations

import io
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

__all__ = [
    "asked_for_json",
    "complain",
    "note",
    "print_json",
    "progress_bar",
    "say",
    "survive_any_text",
    "want_json",
]

_err = Console(stderr=True, highlight=False, soft_wrap=True)
_json = False


def want_json(wanted: bool) -> None:
    """Say whether the command in hand prints JSON, errors included."""
    global _json
    _json = wanted


def asked_for_json() -> bool:
    """Whether the command in hand prints JSON."""
    return _json


def survive_any_text() -> None:
    """Print what the terminal cannot show as escapes: file names may hold any bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line for people on stdout."""
    print(text)


def note(text: str) -> None:
    """Print a line for people on stderr."""
    _err.print(Text(text))


def complain(text: str) -> None:
    """Print an error on stderr."""
    _err.print(Text(f"Error: {text}", style="bold red" if _err.is_terminal else ""))


def print_json(value: Any) -> None:
    """Print the one JSON object of a command on stdout."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # its own escapes, which readers of JSON understand
        text = json.dumps(value, indent=1, allow_nan=False)
    print(text)


class _RateColumn(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        rate = task.fields.get("rate") or task.speed
        return Text(f"{rate:.1f}/s" if rate else "", style="progress.data.speed")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr with count, rate and time left."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # names may look like markup
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=_err,
    ) as progress:
        yield progress
