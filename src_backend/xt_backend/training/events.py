"""What training and evaluation tell while they work: plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Progress", "ProgressCallback", "Warnings", "ignore"]


@dataclass(frozen=True)
class Progress:
    """One step forward.

    Attributes:
        stage: ``slides`` (reading annotations), ``encode``, ``examples`` (counted, before training
            starts), ``train``, ``calibrate``, ``evaluate``; at any time ``notice``: a warning, or
            where a training that was broken off goes on.
        done: Units done: regions while encoding, epochs while training, else slides.
        total: Units in all; 0 when not known yet.
        message: One line for a human.
        metrics: Numbers of the epoch while training, else empty.
        lines: Text to be kept in view: the examples of each class, a notice; else empty.
    """

    stage: Literal["slides", "encode", "examples", "train", "calibrate", "evaluate", "notice"]
    done: int
    total: int
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


ProgressCallback: TypeAlias = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """The callback of those who do not watch."""


@dataclass(frozen=True)
class Warnings:
    """What puts a result in doubt: said as soon as it is known, and said once.

    Attributes:
        progress: Is told.
        said: So far.
    """

    progress: ProgressCallback
    said: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        """Say it, unless it was said before."""
        if text not in self.said:
            self.said.append(text)
            self.progress(Progress("notice", 0, 0, lines=(f"Warning: {text}",)))
