"""Where to cut a ranking so that a share of what is sought is above, with a stated confidence.

Let the positives that a cut is chosen by be drawn at random from all of them, the ranking know
nothing of them, and the cut be the k-th lowest of their m ranks. That more than a share a of all
positives lies below it then means that fewer than k of m draws fell into the lowest share a: a
binomial probability (Wilks, Annals of Mathematical Statistics 12, 1941), and the same number as the
upper bound of Clopper and Pearson (Biometrika 26, 1934) for k - 1 misses among m. Bates et al.
(Distribution-free, risk-controlling prediction sets, Journal of the ACM 68, 2021) give the same
promise for other losses. It holds for any ranking, a bad one only leaves less out, and drawing
without replacement makes it safer still.
"""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, betaincinv

__all__ = ["CONFIDENCE", "cut_place", "positives_needed", "recall_bound"]

CONFIDENCE = 0.95
"""Probability, over what is drawn, that the promise is kept."""


def cut_place(n_positives: int, recall: float, confidence: float = CONFIDENCE) -> int:
    """The highest cut that is allowed: how many of the drawn positives may lie at or below it.

    Args:
        n_positives: Drawn.
        recall: Share of all positives that is to be above the cut, or at it; 0 to 1.
        confidence: Of that.

    Returns:
        k: the cut is the k-th lowest rank among those drawn; 0 where there is no such cut.
    """
    k = np.arange(1, n_positives + 1)
    return int((bdtr(k - 1, n_positives, 1 - recall) <= 1 - confidence).sum())


def positives_needed(recall: float, confidence: float = CONFIDENCE) -> int:
    """The fewest positives by which a cut can be chosen, the lowest of them being the cut.

    Args:
        recall: As of `cut_place`, below 1.
        confidence: Of that.
    """
    n = max(1, int(np.log1p(-confidence) / np.log(recall)) - 1)
    while not cut_place(n, recall, confidence):
        n += 1
    return n


def recall_bound(n_positives: int, place: int, confidence: float = CONFIDENCE) -> float:
    """The share of all positives that is at least above a cut or at it.

    Args:
        n_positives: Drawn.
        place: Of `cut_place`, at least 1.
        confidence: Of that.
    """
    return 1 - float(betaincinv(place, n_positives - place + 1, confidence))
