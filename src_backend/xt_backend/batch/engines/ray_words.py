"""What a batch and the process that speaks with its Ray cluster say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from xt_backend.keys import Stopped

from ..job import Job
from ..outcome import Outcome
from ..plan import Task

__all__ = ["STOP", "Begin", "Ended", "Open", "Opened", "Result"]

STOP = "stop"
"""Parent to child: give up what is in hand."""


@dataclass(frozen=True)
class Open:
    """Parent to child: connect to a cluster, or start one on loopback.

    Attributes:
        address: HOST:PORT or ``auto``; None starts one.
        processes: Workers that it has to have room for; None for as many as there is.
    """

    address: str | None
    processes: int | None


@dataclass(frozen=True)
class Opened:
    """Child to parent: the cluster is there.

    Attributes:
        address: HOST:PORT.
        gpus: In all.
    """

    address: str
    gpus: int


@dataclass(frozen=True)
class Begin:
    """Parent to child: do these tasks, on GPUs or not."""

    job: Job
    tasks: tuple[Task, ...]
    on_gpus: bool


@dataclass(frozen=True)
class Result:
    """Child to parent: how a task went."""

    task: Task
    result: Outcome | Stopped


@dataclass(frozen=True)
class Ended:
    """Child to parent: there is nothing more to come."""
