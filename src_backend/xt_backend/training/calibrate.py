"""Temperature and decision thresholds, fitted on slides that were not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .metrics import bootstrap

__all__ = ["Goal", "fit_temperature", "fit_threshold", "fit_thresholds"]

TEMPERATURES = (0.25, 20.0)
"""Where the temperature is looked for. A few validation slides without a mistake would ask for 0,
that is for certainty, which they cannot prove."""

_STEPS = 60
_DRAWS = 500

Floats = npt.NDArray[np.float64]
Goal: TypeAlias = Literal["f1", "balanced-accuracy"]


def fit_temperature(
    logits: npt.NDArray[np.floating],
    soft: npt.NDArray[np.floating],
    weights: npt.NDArray[np.floating],
) -> float:
    """Find the temperature with the smallest cross entropy.

    Args:
        logits: (n, C) finite.
        soft: (n, C) class shares, rows sum to 1.
        weights: (n,) what each region counts.

    Returns:
        Within `TEMPERATURES`; 1 when nothing counts, or all that counts is of one class: any
        certainty would suit it then.
    """
    counting = soft[weights > 0]
    if not len(counting) or counting.min(axis=0).max() == 1:
        return 1.0
    logits = logits.astype(np.float64)

    def loss(log_inverse: float) -> float:
        scaled = logits * np.exp(log_inverse)
        top = scaled.max(axis=1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((weights * (log_sum - (soft * scaled).sum(axis=1))).sum())

    # The loss is convex in 1 / temperature, so it has one valley in its logarithm too.
    low, high = -np.log(TEMPERATURES[1]), -np.log(TEMPERATURES[0])
    for _ in range(_STEPS):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return float(np.exp(-(low + high) / 2))


def fit_thresholds(
    true: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.floating],
    classes: Mapping[str, int],
    goal: Goal = "f1",
    weights: npt.NDArray[np.floating] | None = None,
    *,
    groups: npt.NDArray[np.integer] | None = None,
    margin: float = 0.0,
) -> dict[str, float]:
    """Fit the thresholds of several classes, each on its own.

    Of two classes only one gets a threshold, the one for which it is worth more: the thresholds
    of both would contradict each other. What a threshold is worth varies from patient to patient;
    with few of them the best one for these can be a poor one for the next.

    Args:
        true: (n,) labels.
        probabilities: (n, C).
        classes: Column by name of those wanted.
        goal: As of `fit_threshold`.
        weights: As of `fit_threshold`.
        groups: (n,) number of each region's patient or slide; needed where `margin` is above 0.
        margin: How many standard errors, found by drawing groups anew, a threshold must be worth.

    Returns:
        By name; classes for which no threshold is better than none are left out.
    """
    best = probabilities.argmax(axis=1)
    found = {}
    for name, column in classes.items():
        one = _OneClass.of(true == column, probabilities[:, column], best == column, weights)
        cut = _best_cut(one, goal)
        if cut is None or (margin > 0 and not _certain(one, cut[0], goal, groups, margin)):
            continue
        found[name] = cut
    if probabilities.shape[1] == 2 and len(found) == 2:
        name = max(found, key=lambda one: found[one][1])
        found = {name: found[name]}
    return {name: threshold for name, (threshold, _) in found.items()}


def fit_threshold(
    positive: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.floating],
    most_probable: npt.NDArray[np.bool_],
    goal: Goal = "f1",
    weights: npt.NDArray[np.floating] | None = None,
) -> float | None:
    """Find the probability from which on calling a region positive is best.

    Regions whose most probable class it is are called positive in any case (see
    `xt_backend.store.labels.winners`): a threshold can only add regions.

    Args:
        positive: (n,) whether the region is of the class.
        probability: (n,) of the class.
        most_probable: (n,) whether the class is the most probable one.
        goal: What is to be as large as possible: F1 of the class, or ``balanced-accuracy``, the
            mean of the shares of positive and of negative regions that are called right.
        weights: (n,) what each region counts; 1 when None.

    Returns:
        Half way to the next lower probability; None when no threshold is better than none.
    """
    cut = _best_cut(_OneClass.of(positive, probability, most_probable, weights), goal)
    return None if cut is None else cut[0]


@dataclass(frozen=True)
class _OneClass:
    """Regions of a class and all others: (n,) each, as of `fit_threshold`."""

    positive: npt.NDArray[np.bool_]
    probability: npt.NDArray[np.floating]
    most_probable: npt.NDArray[np.bool_]
    counts: Floats

    @classmethod
    def of(
        cls,
        positive: npt.NDArray[np.bool_],
        probability: npt.NDArray[np.floating],
        most_probable: npt.NDArray[np.bool_],
        weights: npt.NDArray[np.floating] | None,
    ) -> _OneClass:
        counts = np.ones(len(positive)) if weights is None else np.asarray(weights, np.float64)
        return cls(positive, probability, most_probable, counts)


def _best_cut(one: _OneClass, goal: Goal) -> tuple[float, float] | None:
    """The threshold of `fit_threshold`, and by how much the goal is better with it."""
    others = np.flatnonzero(~one.most_probable)
    order = others[np.argsort(-one.probability[others], kind="stable")]
    ranked = one.probability[order].astype(np.float64)
    right = one.counts * one.positive
    hits = right[one.most_probable].sum() + np.cumsum(np.append(0.0, right[order]))
    called = one.counts[one.most_probable].sum() + np.cumsum(np.append(0.0, one.counts[order]))
    wrong = one.counts * ~one.positive
    score = _score(goal, hits, called, float(right.sum()), float(wrong.sum()))
    # A cut between equal probabilities cannot be made.
    possible = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])[: len(score)]
    best = int(np.argmax(np.where(possible, score, -1.0)))
    if best == 0:
        return None
    below = float(ranked[best]) if best < len(ranked) else 0.0
    return (float(ranked[best - 1]) + below) / 2, float(score[best] - score[0])


def _score(goal: Goal, hits: Floats, called: Floats, positives: float, negatives: float) -> Floats:
    """The goal, where so much is called positive and so much of that rightly."""
    least = np.finfo(np.float64).tiny
    if goal == "f1":
        f1: Floats = 2 * hits / np.maximum(called + positives, least)
        return f1
    spared: Floats = negatives - (called - hits)
    balanced: Floats = (hits / max(positives, least) + spared / max(negatives, least)) / 2
    return balanced


def _certain(
    one: _OneClass,
    threshold: float,
    goal: Goal,
    groups: npt.NDArray[np.integer] | None,
    margin: float,
) -> bool:
    """Whether what a threshold is worth is more than so many standard errors above nothing."""
    if groups is None:
        raise ValueError("a margin needs groups")
    group = np.unique(groups, return_inverse=True)[1]
    called = (one.most_probable, one.most_probable | (one.probability >= threshold))
    kinds = [one.positive, ~one.positive, *(some & one.positive for some in called), *called]
    sums = np.stack([np.bincount(group, one.counts * kind) for kind in kinds])

    def worth(weights: Floats) -> Floats:
        totals = sums @ weights
        before, after = _score(goal, totals[2:4], totals[4:6], totals[0], totals[1])
        return np.array([after - before])

    draws = bootstrap(worth, np.arange(sums.shape[1]), _DRAWS, seed=0)
    # A single group shows no spread.
    return not len(draws) or bool(draws.mean() > margin * draws.std())
