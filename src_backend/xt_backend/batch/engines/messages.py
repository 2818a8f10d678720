"""What workers in other processes, and those who watch over them, say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from xt_backend.engine import Event
from xt_backend.errors import XTError
from xt_backend.keys import Stopped

from ..outcome import Outcome
from ..plan import Task

__all__ = ["Broke", "Done", "GaveUp", "Lost", "Message", "Ready", "Seen"]


@dataclass(frozen=True)
class Ready:
    """A worker is there and waits for its first task."""


@dataclass(frozen=True)
class Seen:
    """An event of the task in hand."""

    task: Task
    event: Event


@dataclass(frozen=True)
class Done:
    """The task in hand is done; what became of it is published."""

    outcome: Outcome


@dataclass(frozen=True)
class GaveUp:
    """The task in hand was given up, as was asked."""

    how: Stopped


@dataclass(frozen=True)
class Broke:
    """Something is wrong that no other worker can do better; the batch cannot go on."""

    error: XTError


@dataclass(frozen=True)
class Lost:
    """A worker is gone without an answer.

    Attributes:
        cause: How, in words.
    """

    cause: str


Message: TypeAlias = Ready | Seen | Done | GaveUp | Broke | Lost
