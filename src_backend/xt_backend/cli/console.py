"""What the command line prints: JSON on stdout, everything for people on stderr or stdout."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from xt_backend.wording import on_one_line

from .progress_lines import ProgressLines

__all__ = [
    "Bars",
    "asked_for_json",
    "complain",
    "note",
    "print_json",
    "progress_bar",
    "say",
    "say_table",
    "survive_any_text",
    "want_json",
    "warn",
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
    print(on_one_line(text))


def say_table(text: str) -> None:
    """Print lines for people on stdout."""
    for line in text.split("\n"):
        say(line)


def note(text: str) -> None:
    """Print a line for people on stderr."""
    _err.print(Text(on_one_line(text)))


def warn(text: str) -> None:
    """Print a warning on stderr."""
    _print_marked(f"Warning: {text}", "bold yellow")


def complain(text: str) -> None:
    """Print an error on stderr."""
    _print_marked(f"Error: {text}", "bold red")


def _print_marked(text: str, style: str) -> None:
    _err.print(Text(on_one_line(text), style=style if _err.is_terminal else ""))


def print_json(value: Any) -> None:
    """Print the one JSON object of a command on stdout."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # its own escapes, which readers of JSON understand
        text = json.dumps(value, indent=1, allow_nan=False)
    print(text)


class _DescriptionColumn(ProgressColumn):
    """What is being done; names may look like markup or hold line breaks."""

    def render(self, task: Task) -> Text:
        return Text(on_one_line(task.description))


class _RateColumn(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        rate = task.fields.get("rate") or task.speed
        return Text(f"{rate:.1f}/s" if rate else "", style="progress.data.speed")


class Bars(Protocol):
    """What commands tell their progress."""

    def add_task(self, description: str, *, total: float | None) -> TaskID:
        """Begin something; `total` may not be known yet."""
        ...

    def update(
        self,
        task_id: TaskID,
        *,
        total: float | None = None,
        completed: float | None = None,
        description: str | None = None,
        visible: bool | None = None,
        **fields: Any,
    ) -> None:
        """Say how far it is; ``rate`` is the number done in a second, if known better."""
        ...

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """One more is done."""
        ...

    def remove_task(self, task_id: TaskID) -> None:
        """It is over."""
        ...


@contextmanager
def progress_bar() -> Iterator[Bars]:
    """A bar on stderr with count, rate and time left; a line now and then where it is a file."""
    if not sys.stderr.isatty() or _err.is_dumb_terminal:
        yield ProgressLines(note)
        return
    with Progress(
        SpinnerColumn(),
        _DescriptionColumn(Column(no_wrap=True)),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=_err,
    ) as progress:
        yield progress
