"""What the two sides of the process border say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from xt_backend.engine.events import Event
from xt_backend.engine.spec import RunSpec

__all__ = ["Cancel", "Close", "Happened", "Submit"]


@dataclass(frozen=True)
class Submit:
    """Parent to child: work this off."""

    spec: RunSpec


@dataclass(frozen=True)
class Cancel:
    """Parent to child: stop this run."""

    run_id: str


@dataclass(frozen=True)
class Close:
    """Parent to child: stop everything and end."""


@dataclass(frozen=True)
class Happened:
    """Child to parent: an event of a run."""

    event: Event
