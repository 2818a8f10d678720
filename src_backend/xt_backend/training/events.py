"""What training and evaluation tell while they work: plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Progress", "ProgressCallback", "ignore"]


@dataclass(frozen=True)
class Progress:
    """One step forward.

    Attributes:
        stage: ``slides`` (reading annotations), ``encode``, ``examples`` (counted, before training
            starts), ``train``, ``calibrate``, ``evaluate``.
        done: Units done: regions while encoding, epochs while training, else slides.
        total: Units in all; 0 when not known yet.
        message: One line for a human.
        metrics: Numbers of the epoch while training, else empty.
        lines: Text to be kept in view: the examples of each class; else empty.
    """

    stage: Literal["slides", "encode", "examples", "train", "calibrate", "evaluate"]
    done: int
    total: int
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


ProgressCallback: TypeAlias = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """The callback of those who do not watch."""
