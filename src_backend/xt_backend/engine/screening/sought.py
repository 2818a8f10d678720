"""Which classes a screening looks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.config import ScoreOptions
from xt_backend.errors import ModelError, UsageError
from xt_backend.model import ModelCard
from xt_backend.store import ScoreMap

__all__ = ["Sought", "sought_in"]

_FINITE = 1e-6


@dataclass(frozen=True)
class Sought:
    """What no more than a stated share of may be missed.

    Attributes:
        classes: Names; a region is positive when its label is one of them.
        recall: Share of the positive regions that are to be looked at.
    """

    classes: tuple[str, ...]
    recall: float

    def positive(self, score_map: ScoreMap) -> npt.NDArray[np.bool_]:
        """(n,) bool: each region alone is labelled as one of the classes."""
        wanted = [score_map.classes.index(name) for name in self.classes]
        return np.isin(score_map.labels(region_only=True), wanted)

    def evidence(self, score_map: ScoreMap) -> npt.NDArray[np.float64]:
        """(n,) float64 log-odds of being one of them, alone; NaN where there is no score."""
        wanted = [score_map.classes.index(name) for name in self.classes]
        share = score_map.region_only_probabilities[:, wanted].sum(axis=1, dtype=np.float64)
        share = share.clip(_FINITE, 1 - _FINITE)
        return np.asarray(np.log(share) - np.log1p(-share))


def sought_in(card: ModelCard, options: ScoreOptions) -> Sought | None:
    """What a run with a model is to look for; None where nothing is screened.

    The classes are those that were named, or the only one of two that has a decision threshold.

    Args:
        card: Of the model.
        options: Of the run.

    Raises:
        UsageError: A class is not the model's, or none is named and none goes without saying.
        ModelError: The model predicts something else than regions, or not from each one alone.
    """
    if options.screen is None:
        if options.screen_class:
            raise UsageError(
                "--screen-class is given without --screen", "Give the recall too: --screen 0.95"
            )
        return None
    if card.task != "region" or card.layout == "reference":
        what = "converted" if card.layout == "reference" else card.task
        raise ModelError(
            f"--screen is for models of regions, and {card.name} is a {what} model",
            "Leave --screen out",
        )
    known = ", ".join(card.class_names)
    if unknown := [name for name in options.screen_class if name not in card.class_names]:
        raise UsageError(
            f"--screen-class: {card.name} has no class '{unknown[0]}'", f"Name one of {known}"
        )
    classes = tuple(name for name in card.class_names if name in options.screen_class)
    if not classes and len(card.classes) == 2 and len(card.thresholds) == 1:
        classes = tuple(card.thresholds)
    if not classes:
        raise UsageError(
            "--screen does not say what is sought", f"Name it with --screen-class: one of {known}"
        )
    if len(classes) == len(card.classes):
        raise UsageError("--screen-class names every class", "Name those that must not be missed")
    return Sought(classes, options.screen)
