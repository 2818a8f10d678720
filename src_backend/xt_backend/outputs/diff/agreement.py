"""How far two lists of classes agree, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Agreement", "correlation"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """A table of how often which class of the first met which class of the second.

    Attributes:
        classes: Names, of either.
        counts: (C, C) int64; rows are classes of the first.
    """

    classes: tuple[str, ...]
    counts: Counts

    @classmethod
    def of(
        cls,
        labels_a: npt.NDArray[np.integer],
        labels_b: npt.NDArray[np.integer],
        classes_a: Sequence[str],
        classes_b: Sequence[str],
    ) -> Agreement:
        """Count pairs.

        Args:
            labels_a: (n,) index into `classes_a`.
            labels_b: (n,) index into `classes_b`.
            classes_a: Names.
            classes_b: Names; equal ones mean the same.
        """
        classes = tuple(dict.fromkeys((*classes_a, *classes_b)))
        to_a, to_b = (
            np.array([classes.index(name) for name in names]) for names in (classes_a, classes_b)
        )
        pairs = to_a[labels_a] * len(classes) + to_b[labels_b]
        counts = np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), -1)
        return cls(classes, counts.astype(np.int64))

    def __add__(self, other: Agreement) -> Agreement:
        classes = tuple(dict.fromkeys((*self.classes, *other.classes)))
        counts = np.zeros((len(classes), len(classes)), np.int64)
        for part in (self, other):
            places = [classes.index(name) for name in part.classes]
            counts[np.ix_(places, places)] += part.counts
        return Agreement(classes, counts)

    @property
    def total(self) -> int:
        """Number of pairs."""
        return int(self.counts.sum())

    @property
    def same(self) -> float:
        """Share of pairs of one class, NaN without any."""
        return float(np.trace(self.counts) / self.total) if self.total else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond what the classes' shares alone would give.

        NaN without pairs, and where both only know one and the same class.
        """
        if not self.total:
            return float("nan")
        shares = self.counts / self.total
        by_chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
        return (self.same - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def correlation(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Pearson's, NaN where one of both does not vary or there are fewer than two pairs."""
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(one) < 2 or not one.std() or not other.std():
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
