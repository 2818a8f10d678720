"""From logits to probabilities to labels: the one rule that all outputs share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["probabilities_of", "winners"]

Floats = npt.NDArray[np.float32]


def probabilities_of(logits: Floats, temperature: float) -> Floats:
    """Softmax of logits / temperature, computed in float64.

    Args:
        logits: (n, C) float32; rows of NaN give NaN.
        temperature: Above 0.

    Returns:
        (n, C) float32.
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    probabilities: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def winners(probabilities: Floats, thresholds: Floats) -> npt.NDArray[np.int32]:
    """The predicted class of each row.

    The most probable class; or, where the probability of a class with a threshold reaches it,
    that class; of several such classes the one that is furthest above its threshold. Of equals
    the first.

    Args:
        probabilities: (n, C) float32.
        thresholds: (C,) float32, NaN where a class has none.

    Returns:
        (n,) int32, -1 where a probability is NaN.
    """
    labels: npt.NDArray[np.int32] = probabilities.argmax(axis=1).astype(np.int32)
    above = probabilities - thresholds
    above[~(above >= 0)] = -1
    passed = (above >= 0).any(axis=1)
    labels[passed] = above[passed].argmax(axis=1)
    labels[np.isnan(probabilities).any(axis=1)] = -1
    return labels
