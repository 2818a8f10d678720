"""Temperature and decision thresholds, fitted on slides that were not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["fit_temperature", "fit_threshold"]

TEMPERATURES = (0.25, 20.0)
"""Where the temperature is looked for. A few validation slides without a mistake would ask for 0,
that is for certainty, which they cannot prove."""

_STEPS = 60

Floats = npt.NDArray[np.float64]


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
        Within `TEMPERATURES`; 1 when nothing counts.
    """
    if not len(logits) or weights.sum() <= 0:
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


def fit_threshold(
    positive: npt.NDArray[np.bool_],
    probability: npt.NDArray[np.floating],
    most_probable: npt.NDArray[np.bool_],
) -> float | None:
    """Find the probability from which on calling a region positive gives the best F1.

    Regions whose most probable class it is are called positive in any case (see
    `xt_backend.store.labels.winners`): a threshold can only add regions.

    Args:
        positive: (n,) whether the region is of the class.
        probability: (n,) of the class.
        most_probable: (n,) whether the class is the most probable one.

    Returns:
        Half way to the next lower probability; None when no threshold is better than none.
    """
    others = np.flatnonzero(~most_probable)
    order = others[np.argsort(-probability[others], kind="stable")]
    ranked = probability[order].astype(np.float64)
    hits = positive[most_probable].sum() + np.cumsum(np.append(0, positive[order]))
    called = most_probable.sum() + np.arange(len(order) + 1)
    f1 = 2 * hits / np.maximum(called + positive.sum(), 1)
    # A cut between equal probabilities cannot be made.
    possible = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])[: len(f1)]
    best = int(np.argmax(np.where(possible, f1, -1.0)))
    if best == 0:
        return None
    below = float(ranked[best]) if best < len(ranked) else 0.0
    return (float(ranked[best - 1]) + below) / 2
