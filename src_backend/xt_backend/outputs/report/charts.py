"""What the plots of a report show; the templates draw it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import DEFAULT_COLORS

__all__ = ["Histogram", "Part", "parts", "time_parts"]

_BINS = 20
_REST = "#bbbbbb"


@dataclass(frozen=True)
class Part:
    """A piece of a bar.

    Attributes:
        name: What it is.
        color: "#rrggbb".
        value: Its size.
        share: Of the whole bar, 0 to 1.
    """

    name: str
    color: str
    value: float
    share: float


@dataclass(frozen=True)
class Histogram:
    """How often a number falls into each of a row of equal intervals.

    Attributes:
        name: What the numbers are of.
        color: "#rrggbb".
        counts: By interval.
        low: Where the first begins.
        high: Where the last ends.
        is_share: The numbers are shares, 0 to 1.
    """

    name: str
    color: str
    counts: tuple[int, ...]
    low: float
    high: float
    is_share: bool

    @classmethod
    def of_shares(cls, name: str, color: str, values: npt.ArrayLike) -> Histogram:
        """Of numbers from 0 to 1; what is not finite is left out."""
        return cls._of(name, color, values, 1.0, is_share=True)

    @classmethod
    def of_counts(cls, name: str, color: str, values: npt.ArrayLike) -> Histogram:
        """Of numbers from 0 on; what is not finite is left out."""
        numbers = np.asarray(values, np.float64)
        most = float(np.max(numbers, initial=1.0, where=np.isfinite(numbers)))
        return cls._of(name, color, numbers, most, is_share=False)

    @classmethod
    def _of(
        cls, name: str, color: str, values: npt.ArrayLike, high: float, *, is_share: bool
    ) -> Histogram:
        numbers = np.asarray(values, np.float64)
        counts, _ = np.histogram(numbers[np.isfinite(numbers)], _BINS, (0.0, high))
        return cls(name, color, tuple(counts.tolist()), 0.0, high, is_share)

    @property
    def total(self) -> int:
        """Number of numbers."""
        return sum(self.counts)

    @property
    def most(self) -> int:
        """The largest count, at least 1."""
        return max(1, *self.counts)


def parts(values: Iterable[tuple[str, str, float]], whole: float | None = None) -> list[Part]:
    """The pieces of a bar.

    Args:
        values: Name, colour and size of each.
        whole: Size of the whole bar; their sum when None.
    """
    known = [(name, color, value) for name, color, value in values if value > 0]
    total = sum(value for _, _, value in known) if whole is None else whole
    return [Part(name, color, value, value / total) for name, color, value in known]


def time_parts(seconds: Mapping[str, Any], words: Mapping[str, str]) -> list[Part]:
    """Where the time went, the longest first.

    Args:
        seconds: By stage; others than those in `words` are left out.
        words: What the stages are called.
    """
    known = {word: float(seconds.get(name) or 0.0) for name, word in words.items()}
    longest = sorted(known.items(), key=lambda item: -item[1])
    colors = [*DEFAULT_COLORS, *[_REST] * len(longest)]
    named = zip(longest, colors, strict=False)
    return parts((word, color, value) for (word, value), color in named)
