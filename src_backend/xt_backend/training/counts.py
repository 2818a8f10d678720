"""How many examples of each class there are, to learn from and to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.model import ModelCard

from .learner import Learner
from .pixel_targets import HeatTargets
from .pixels import PixelField

__all__ = ["ExampleCounts", "count_examples"]

_WIDTH = 24


@dataclass(frozen=True)
class ExampleCounts:
    """Examples by class.

    Attributes:
        unit: What is counted: ``regions``, ``slides`` or ``objects``.
        train: To learn from.
        val: That choose the epoch, temperature and thresholds; None without validation slides.
    """

    unit: str
    train: dict[str, int]
    val: dict[str, int] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"unit": self.unit, "training": self.train, "validation": self.val}

    def lines(self) -> list[str]:
        """A small table for people."""
        titles = ["training"] if self.val is None else ["training", "validation"]
        lines = [f"{self.unit:<{_WIDTH}}" + "".join(f"{title:>12}" for title in titles)]
        for name, n_train in self.train.items():
            numbers = [n_train] if self.val is None else [n_train, self.val[name]]
            lines.append(f"  {name:<{_WIDTH - 2}}" + "".join(f"{n:>12,}" for n in numbers))
        return lines

    def warnings(self) -> list[str]:
        """What it means that a class has no example."""
        said = []
        if absent := _absent(self.train):
            said.append(
                f"no training {self.unit} are of class {absent}, so that the model cannot learn it"
            )
        if absent := _absent(self.val or {}):
            said.append(
                f"no validation {self.unit} are of class {absent}: how well it is told apart "
                "cannot be measured, no threshold can be fitted for it, and the best epoch is "
                "chosen without it; name slides that have it with --val, or add such slides"
            )
        return said


def _absent(counts: dict[str, int]) -> str:
    return ", ".join(name for name, count in counts.items() if not count)


def count_examples(
    card: ModelCard, learner: Learner, train: Sequence[PixelField], val: Sequence[PixelField]
) -> tuple[ExampleCounts, ...]:
    """Count regions, or slides where these have the label; for detection also the objects.

    Args:
        card: Names the classes.
        learner: Knows the labels.
        train: Fields of the learner, where it learns from pixels; else empty.
        val: The same for validation.
    """

    def named(counts: npt.NDArray[np.int64]) -> dict[str, int]:
        return dict(zip(card.class_names, counts.tolist(), strict=True))

    seen = learner.counts(validation=True)
    counts = ExampleCounts(
        "slides" if card.task == "slide" else "regions",
        named(learner.counts()),
        named(seen) if seen.any() else None,
    )
    if card.task != "detection":
        return (counts,)
    objects = ExampleCounts(
        "objects", _objects(card, train), _objects(card, val) if len(val) else None
    )
    return counts, objects


def _objects(card: ModelCard, fields: Sequence[PixelField]) -> dict[str, int]:
    """Marked objects in the selected regions, by kind."""
    total = np.zeros(len(card.point_kinds), np.int64)
    for one in fields:
        if isinstance(one.targets, HeatTargets):
            total += one.targets.counts.sum(axis=0).astype(np.int64)
    return dict(zip(card.point_kinds, total.tolist(), strict=True))
