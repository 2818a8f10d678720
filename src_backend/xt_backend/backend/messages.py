"""What the two sides of the process border say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from xt_backend.engine.elsewhere import Elsewhere
from xt_backend.errors import XTError

from .jobs import AnyEvent, Work

__all__ = ["Answer", "AskDevice", "Cancel", "Close", "DeviceChoice", "Happened", "Submit"]


@dataclass(frozen=True)
class DeviceChoice:
    """The device that a run would use.

    Attributes:
        name: For example ``cpu`` or ``cuda:0``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        reason: Why this device, in words.
    """

    name: str
    precision: str
    reason: str


@dataclass(frozen=True)
class Submit:
    """Parent to child: work this off."""

    spec: Work


@dataclass(frozen=True)
class AskDevice:
    """Parent to child: which device would it be?"""

    question_id: str
    device: str
    precision: str
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class Cancel:
    """Parent to child: stop this run."""

    run_id: str


@dataclass(frozen=True)
class Close:
    """Parent to child: stop everything and end."""


@dataclass(frozen=True)
class Happened:
    """Child to parent: an event of a run or job."""

    event: AnyEvent


@dataclass(frozen=True)
class Answer:
    """Child to parent: what was asked for, or why there is no answer."""

    question_id: str
    content: DeviceChoice | XTError
