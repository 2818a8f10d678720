"""The outcome of a tuning: plain data, which the window takes without loading torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xt_backend.model.card import ModelCard

__all__ = ["Change", "TuneResult"]


@dataclass(frozen=True)
class Change:
    """A model before and after a tuning, on the slides that were corrected.

    Attributes:
        corrected: Corrected regions by class.
        right_before: How many of them the model had right before, by class.
        right_after: How many it has right now.
        others: Regions that nobody corrected.
        others_changed: How many of them have another label now.
        shares_before: Share of these by class, before.
        shares_after: The same now.
    """

    corrected: dict[str, int]
    right_before: dict[str, int]
    right_after: dict[str, int]
    others: int
    others_changed: int
    shares_before: dict[str, float]
    shares_after: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @property
    def agreement(self) -> tuple[float, float]:
        """Share of the corrected regions that the model has right, before and now."""
        n = sum(self.corrected.values())
        return sum(self.right_before.values()) / n, sum(self.right_after.values()) / n


@dataclass(frozen=True)
class TuneResult:
    """The outcome of a tuning.

    Attributes:
        model: The new file.
        card: As it is stored there.
        change: What it changed on the corrected slides.
        losses: By step.
        seconds: In all, and those of the steps alone.
        notes: What the user should know.
    """

    model: Path
    card: ModelCard
    change: Change
    losses: tuple[float, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        before, after = self.change.agreement
        return {
            "model": self.model.name,
            "name": self.card.name,
            "agreement_before": before,
            "agreement_after": after,
            **self.change.to_dict(),
            "steps": len(self.losses),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }
