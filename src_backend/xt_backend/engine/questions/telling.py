"""What a score map tells of itself: doubt, what context changed, and which regions show it best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xt_backend.store import ScoreMap

__all__ = ["context_change", "entropy", "most_telling"]

Floats = npt.NDArray[np.float32]


def entropy(score_map: ScoreMap, *, region_only: bool = False) -> Floats:
    """How undecided the model is between its classes.

    Args:
        score_map: Its probabilities are calibrated by the model's temperature.
        region_only: By the scores without context.

    Returns:
        (n,) float32 from 0, certain, to 1, all classes alike; NaN where nothing is scored.
    """
    values = score_map.region_only_probabilities if region_only else score_map.probabilities
    chances = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(chances > 0, chances * np.log(chances), 0.0 * chances)
    n_classes = max(2, values.shape[1])  # a single class is always certain
    found: Floats = (-parts.sum(axis=1) / np.log(n_classes)).astype(np.float32)
    return found.clip(0, 1)


def context_change(score_map: ScoreMap) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What the surroundings changed.

    Returns:
        (n, C) float32 probability with context minus that of the region alone, NaN where one is
        missing; (n,) bool whether the predicted class is another one.
    """
    change: Floats = score_map.probabilities - score_map.region_only_probabilities
    labels, alone = score_map.labels(), score_map.labels(region_only=True)
    return change, (labels != alone) & (labels >= 0) & (alone >= 0)


def most_telling(
    score_map: ScoreMap, values: npt.NDArray[np.floating], count: int, least: float = -np.inf
) -> list[int]:
    """The regions of the highest values, none of which touches another.

    Args:
        score_map: Where they lie.
        values: (n,) for its rows; NaN is left out.
        count: As many at most.
        least: Values up to this one are left out.

    Returns:
        Rows of the score map, highest first; of equals the first.
    """
    lattice = score_map.lattice
    near = -(-lattice.region_px // lattice.stride_px)  # cells of overlapping regions are closer
    taken = np.zeros((lattice.n_rows, lattice.n_cols), bool)
    found: list[int] = []
    values = np.where(np.asarray(values) > least, values, np.nan)
    for row in np.argsort(-values, kind="stable"):
        if len(found) == count or np.isnan(values[row]):
            break
        column, line = score_map.cells[row]
        if not taken[line, column]:
            found.append(int(row))
            taken[
                max(line - near, 0) : line + near + 1, max(column - near, 0) : column + near + 1
            ] = True
    return found
