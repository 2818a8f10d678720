"""Bootstrap intervals: how far a number would move with other slides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MIN_SLIDES_TO_RESAMPLE", "Interval", "bootstrap", "intervals"]

MIN_SLIDES_TO_RESAMPLE = 5
"""With fewer patients the bootstrap draws slides; with fewer slides regions, which makes intervals
too narrow."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A number with its bootstrap interval; NaN where it is not defined.

    Attributes:
        value: On the data as they are.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def to_dict(self) -> dict[str, float | None]:
        """Plain data for JSON; None stands for "not defined"."""
        return {
            name: float(value) if np.isfinite(value) else None
            for name, value in (("value", self.value), ("low", self.low), ("high", self.high))
        }


def bootstrap(
    numbers: Callable[[Floats], Floats], unit: Ints, n_bootstrap: int, seed: int
) -> Floats:
    """(n_bootstrap, M) numbers with the units drawn again, with replacement; none of one unit."""
    n_units = int(unit.max()) + 1 if len(unit) else 0
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(n_bootstrap if n_units > 1 else 0):
        counts = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
        draws.append(numbers(counts[unit].astype(np.float64)))
    width = len(numbers(np.ones(len(unit))))
    return np.array(draws).reshape(-1, width)


def intervals(point: Floats, draws: Floats) -> list[Interval]:
    """The 95 % interval of each number; draws in which it is not defined are left out.

    Args:
        point: (M,) numbers of the data as they are.
        draws: (n_bootstrap, M) as of `bootstrap`.
    """
    found = []
    for value, column in zip(point, draws.T, strict=True):
        defined = column[np.isfinite(column)]
        low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
        found.append(Interval(float(value), float(low), float(high)))
    return found
