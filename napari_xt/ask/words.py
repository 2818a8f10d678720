"""What the page `Ask` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xt.statuses import WITHOUT_CLASS
from xt_backend.keys import RegionStatus
from xt_backend.wording import counted

if TYPE_CHECKING:
    import numpy.typing as npt

    from xt_backend.engine.questions import InfluenceMap, SpreadMap
    from xt_backend.store import ScoreMap

__all__ = [
    "asked_words",
    "doubt_words",
    "headline",
    "influence_words",
    "length",
    "place_words",
    "what_if_words",
]


def length(um: float) -> str:
    """A length for people: µm, above a millimetre mm."""
    return f"{um:,.0f} µm" if um < 1000 else f"{um / 1000:.1f} mm"


def headline(score_map: ScoreMap, row: int) -> str:
    """What is predicted for a region, or why nothing is."""
    label = int(score_map.labels()[row])
    status = RegionStatus(int(score_map.status[row]))
    if label < 0:
        return f"No prediction: {WITHOUT_CLASS.get(status, 'its numbers are not finite')}"
    share = float(score_map.probabilities[row, label])
    return f"{score_map.classes[label]} {share:.0%}"


def place_words(score_map: ScoreMap, row: int) -> str:
    """Where a region is and how large, and what is special about it."""
    lattice = score_map.lattice
    x_px, y_px = (lattice.boxes(score_map.cells[row : row + 1])[0].reshape(2, 2).mean(axis=0)).flat
    x_um, y_um = x_px * lattice.slide_mpp[0], y_px * lattice.slide_mpp[1]
    side = lattice.region_px * lattice.model_mpp
    words = f"{side:,.0f} µm square around x {x_um:,.0f} µm, y {y_um:,.0f} µm"
    status = RegionStatus(int(score_map.status[row]))
    return words + ("; partly outside the slide" if status is RegionStatus.EDGE else "")


def doubt_words(entropy: float, spread: SpreadMap | None, row: int) -> str:
    """How sure the model is of a region."""
    if np.isnan(entropy):
        return ""
    words = f"Undecided: {entropy:.0%}"
    if spread is not None and not np.isnan(spread.deviation[row]):
        same = round(float(spread.agreement[row]) * spread.n_views)
        words += (
            f". Same class in {same} of {spread.n_views} ways to lay the slide "
            f"(± {spread.deviation[row]:.0%})"
        )
    return words + "."


def asked_words(score_map: ScoreMap, row: int | None, class_index: int) -> str:
    """What is being looked for."""
    name = score_map.classes[class_index]
    whole = "the slide as a whole" if row is None else "this region"
    return f"Looking for what speaks for or against “{name}” in {whole} …"


def influence_words(answer: InfluenceMap, classes: tuple[str, ...]) -> str:
    """How far a prediction looked, in words."""
    name = f"“{classes[answer.class_index]}”"
    if answer.rival_index is not None:
        name += f" rather than “{classes[answer.rival_index]}”"
    known = np.isfinite(answer.values)
    unseen = int((answer.values[known] == 0).sum())
    if answer.row is None:
        words = f"This is what speaks for or against {name} for the slide as a whole."
    elif np.isnan(answer.half_um):
        return f"Only the region itself speaks for or against {name}: this model has no context."
    else:
        words = f"Half of the influence on {name} comes from within {length(answer.half_um)}."
    if unseen:
        words += f" {counted(unseen, 'region')} of {known.sum():,} cannot be seen from here."
    if answer.reach_tokens is not None:
        steps = max(1, answer.reach_tokens // answer.tokens_per_region)
        words += f" The model looks {counted(steps, 'region')} ahead and back in its reading order."
    return words


def what_if_words(before: ScoreMap, after: ScoreMap) -> str:
    """What a prediction made again changed."""
    removed = int((after.status == RegionStatus.LEFT_OUT).sum())
    old, new = before.labels(), after.labels()
    both = (old >= 0) & (new >= 0)
    changed = int((old[both] != new[both]).sum())
    words = [
        f"Without {counted(removed, 'region')}: {changed:,} of the other "
        f"{counted(int(both.sum()), 'region')} change class."
    ]
    moved = _largest_moves(old[both], new[both], before.classes)
    if moved:
        words.append(moved)
    one, other = before.slide_probabilities, after.slide_probabilities
    if one is not None and other is not None:
        label = before.slide_label
        if label:
            index = before.classes.index(label)
            words.append(f"The slide as a whole: {label} {one[index]:.0%} → {other[index]:.0%}.")
    return " ".join(words)


def _largest_moves(
    old: npt.NDArray[np.int32], new: npt.NDArray[np.int32], classes: tuple[str, ...]
) -> str:
    """The most frequent change of class, in words; empty where there is none."""
    pairs = (old * len(classes) + new)[old != new]
    if not len(pairs):
        return ""
    kinds, counts = np.unique(pairs, return_counts=True)
    first, second = divmod(int(kinds[counts.argmax()]), len(classes))
    return f"Most often {classes[first]} → {classes[second]} ({counts.max():,})."
