"""What benchmarks tell while they work: plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Tick", "TickCallback", "ignore"]


@dataclass(frozen=True)
class Tick:
    """One step forward.

    Attributes:
        benchmark: Its name.
        done: Cases done.
        total: Cases in all.
        message: What is being done, one line for a human.
    """

    benchmark: str
    done: int
    total: int
    message: str = ""


TickCallback: TypeAlias = Callable[[Tick], None]


def ignore(tick: Tick) -> None:
    """The callback of those who do not watch."""
