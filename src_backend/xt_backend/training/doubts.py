"""What speaks against a model that was just fitted, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xt_backend.model import ModelCard

from .calibrate import TEMPERATURES
from .judging import Judged, read_head
from .pixel_judging import LEAST_SCORE, PixelJudged, PointsJudged

__all__ = ["doubts_of_labels", "doubts_of_points"]

_NEAR = 1.01
"""A temperature within this ratio of a limit has ended there."""

_BETTER = 0.1
"""By so much the F1 of points has to be above that of chance."""

_LOWEST_HEIGHTS = 2 * LEAST_SCORE
"""Peaks below are hardly higher than the ground."""


def doubts_of_labels(card: ModelCard, judged: Sequence[Judged]) -> list[str]:
    """Of temperature and thresholds that ended where their search does.

    Args:
        card: With those that were fitted.
        judged: What they were fitted on.
    """
    unit = "slides" if card.task == "slide" else "regions"
    lowest, highest = TEMPERATURES
    said = []
    if card.temperature <= lowest * _NEAR:
        said.append(
            f"the temperature came out as {lowest:g}, the lowest that is tried: the validation "
            f"{unit} hold too few mistakes to tell how sure the model may be. Its probabilities "
            "may be surer than they should be; add validation slides (--val), or use --folds"
        )
    if card.temperature >= highest / _NEAR:
        said.append(
            f"the temperature came out as {highest:g}, the highest that is tried: on the "
            f"validation {unit} the model is often wrong where it is sure. All its probabilities "
            "come out near each other and tell little; train on more slides, or check the labels"
        )
    predicted = np.concatenate([read_head(one.logits, card)[1] for one in judged])
    true = np.concatenate([one.true for one in judged])
    for name, threshold in card.thresholds.items():
        column = card.class_names.index(name)
        if len(true) and (predicted == column).all() and not (true == column).all():
            said.append(
                f"the threshold of {name} came out as {threshold:.3g}, the lowest that is tried: "
                f"all validation {unit} are called {name}, so it tells nothing apart"
            )
    return said


def doubts_of_points(card: ModelCard, judged: Sequence[PixelJudged]) -> list[str]:
    """Of kinds of points that are found no better than by chance, or hardly above the ground.

    Args:
        card: With the thresholds that were fitted.
        judged: What they were fitted on.
    """
    slides = [one for one in judged if isinstance(one, PointsJudged)]
    way_out = (
        "mark more objects, train for more epochs, and check that they can be seen at "
        f"{card.mpp():g} um/px and are about --peak-radius-um large"
    )
    said = []
    for kind, name in enumerate(card.point_kinds):
        n_objects = sum(int(one.n_objects[kind]) for one in slides)
        if not n_objects:
            continue  # told before training
        threshold = card.detection.threshold(name)
        if name not in card.detection.thresholds:
            said.append(
                f"not one {name} of the validation slides was found: no threshold could be "
                f"fitted, {threshold:g} is stored, and score will find next to none, or wrong "
                f"ones; {way_out}"
            )
            continue
        thresholds = [card.detection.threshold(one) for one in card.point_kinds]
        hits, points, objects = sum(one.counts(thresholds)[kind] for one in slides)
        f1 = 2 * hits / (points + objects)
        chance = 2 * sum(one.by_chance(thresholds)[kind] for one in slides) / (points + objects)
        if f1 < chance + _BETTER:
            said.append(
                f"{name} is found hardly better than by chance: F1 {f1:.3f} on the validation "
                f"slides, where as many points strewn at random would reach {chance:.3f}; {way_out}"
            )
        elif threshold < _LOWEST_HEIGHTS:
            said.append(
                f"the threshold of {name} came out as {threshold:.3g}, where the lowest that is "
                f"tried is {LEAST_SCORE:g}: its points stand out little from the ground, and "
                f"their scores tell little; {way_out}"
            )
    return said
