"""How well the probability of a class ranks its regions before the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Ranked", "auroc"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def auroc(positive: npt.NDArray[np.bool_], scores: Floats, weights: Floats | None = None) -> float:
    """Area under the ROC curve; ties count half.

    Args:
        positive: (n,) whether the region is of the class.
        scores: (n,) probability of the class; failed regions as the worst possible answer.
        weights: (n,) how often each region counts; once when None.

    Returns:
        0 to 1; NaN when one side is empty.
    """
    return Ranked.of(positive, scores).auroc(np.ones(len(scores)) if weights is None else weights)


@dataclass(frozen=True)
class Ranked:
    """Scores sorted once, so that thousands of reweighted areas cost one pass each."""

    order: Ints
    group: Ints
    positive: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, positive: npt.NDArray[np.bool_], scores: Floats) -> Ranked:
        """Sort (n,) scores and whether each region is of the class."""
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        group = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])]).astype(np.int64)
        return cls(order, group[: len(scores)], positive[order])

    def auroc(self, weights: Floats) -> float:
        """The area with (n,) weights in the order that was given; NaN when one side is empty."""
        if not len(self.order):
            return float("nan")
        mine = weights[self.order]
        n_groups = int(self.group[-1]) + 1
        up = np.bincount(self.group, weights=mine * self.positive, minlength=n_groups)
        down = np.bincount(self.group, weights=mine * ~self.positive, minlength=n_groups)
        below = np.cumsum(down) - down / 2
        pairs = up.sum() * down.sum()
        return float((up * below).sum() / pairs) if pairs > 0 else float("nan")
