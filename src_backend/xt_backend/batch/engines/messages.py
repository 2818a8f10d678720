"""What workers in other processes, and those who watch over them, say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from xt_backend.errors import XTError
from xt_backend.keys import Stopped

from ..job import Told
from ..outcome import Outcome
from ..plan import Task

__all__ = ["Broke", "Coming", "Done", "GaveUp", "Lost", "Message", "NearEnd", "Ready", "Seen"]


@dataclass(frozen=True)
class Ready:
    """A worker is there and waits for its first task."""


@dataclass(frozen=True)
class Seen:
    """An event of the task in hand."""

    task: Task
    event: Told


@dataclass(frozen=True)
class NearEnd:
    """The task in hand comes to its end: the next one may be prepared."""


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
        verdict: What is wrong with the task in hand, where no other worker would fare better.
    """

    cause: str
    verdict: XTError | None = None


@dataclass(frozen=True)
class Coming:
    """To a worker: the task that it probably gets next."""

    task: Task


Message: TypeAlias = Ready | Seen | NearEnd | Done | GaveUp | Broke | Lost
