"""Regions in the order in which they are likely to be what is sought."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["rank"]

_RIDGE = 3.0

Floats = npt.NDArray[np.float64]


def rank(
    descriptors: npt.NDArray[np.float32],
    known: npt.NDArray[np.int64],
    evidence: Floats,
) -> Floats:
    """Foretell the evidence of every region from what it looks like, by ridge regression.

    Args:
        descriptors: (n, d) float32, NaN in rows that cannot be told.
        known: (m,) int64, rows whose evidence is known.
        evidence: (m,) float64; rows without a finite one are not learnt from.

    Returns:
        (n,) float64, larger is likelier; infinite where nothing can be told.
    """
    ranks = np.full(len(descriptors), np.inf)
    told = np.asarray(~np.isnan(descriptors).any(axis=1))
    use = told[known] & np.isfinite(evidence)
    if not use.any():
        return ranks
    examples = descriptors[known[use]].astype(np.float64)
    middle, scale = examples.mean(axis=0), examples.std(axis=0) + 1e-6
    examples = (examples - middle) / scale
    target = evidence[use] - evidence[use].mean()
    penalty = _RIDGE * np.eye(examples.shape[1])
    weights = np.linalg.solve(examples.T @ examples + penalty, examples.T @ target)
    ranks[told] = (descriptors[told] - middle) / scale @ weights
    return ranks
