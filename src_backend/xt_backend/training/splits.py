"""Which slides are kept back for validation: never two slides of one patient on both sides."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from xt_backend.errors import AnnotationError
from xt_backend.wording import counted

__all__ = ["draw_order", "fold_slides", "split_slides"]


def split_slides(
    slides: Sequence[str], patients: Mapping[str, str], val_fraction: float, seed: int
) -> tuple[list[str], list[str]]:
    """Divide slides into training and validation.

    Args:
        slides: Names; their order does not matter.
        patients: Patient of a slide; a slide that is missing here is a patient of its own.
        val_fraction: Share of the slides wanted for validation, 0 to 1. At least one patient
            goes to each side, whatever the share.
        seed: The same seed gives the same division.

    Returns:
        Sorted training slides, sorted validation slides.

    Raises:
        AnnotationError: Fewer than two patients: nothing can be kept apart.
    """
    groups = _by_patient(slides, patients)
    if len(groups) < 2:
        raise AnnotationError(
            f"{counted(len(slides), 'slide')} of {counted(len(groups), 'patient')} cannot be "
            "divided into training and validation",
            "Add annotated slides of other patients, or give validation slides with --val",
        )
    names = sorted(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    wanted = val_fraction * len(slides)
    val: list[str] = []
    # The last patient always stays for training.
    for index in order[:-1]:
        members = groups[names[index]]
        # Half a patient too many is closer to the share than half a patient too few.
        if val and len(val) + len(members) / 2 > wanted:
            break
        val += members
    chosen = set(val)
    return [slide for slide in sorted(slides) if slide not in chosen], sorted(val)


def fold_slides(
    slides: Sequence[str],
    patients: Mapping[str, str],
    n_folds: int,
    seed: int,
    *,
    validates: bool = True,
) -> list[list[str]]:
    """Divide slides into parts of about the same size, never one patient into two.

    Args:
        slides: Names; their order does not matter.
        patients: As of `split_slides`.
        n_folds: Number of parts.
        seed: The same seed gives the same division.
        validates: Whether the model of a fold needs a patient to choose its best epoch.

    Returns:
        Sorted slides of each part.

    Raises:
        AnnotationError: There are too few patients. The model of a fold needs one outside of it to
            learn from, and perhaps another to choose its best epoch.
    """
    groups = _by_patient(slides, patients)
    names = sorted(groups)
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    # The largest patients first, each to the smallest part: parts come out even.
    order.sort(key=lambda name: -len(groups[name]))
    folds: list[list[str]] = [[] for _ in range(n_folds)]
    n_patients = [0] * n_folds
    for name in order:
        smallest = min(range(n_folds), key=lambda index: len(folds[index]))
        folds[smallest].extend(groups[name])
        n_patients[smallest] += 1
    needed = 2 if validates else 1
    if not min(n_patients) or len(names) - max(n_patients) < needed:
        raise AnnotationError(
            f"{counted(len(slides), 'slide')} of {counted(len(names), 'patient')} cannot be "
            f"divided into {n_folds} folds with {'two patients' if validates else 'a patient'} "
            "outside of each",
            "Use slides of more patients, or another number of --folds",
        )
    return [sorted(fold) for fold in folds]


def draw_order(
    n_slides: int, n_views: int, patients: Sequence[str], rng: np.random.Generator
) -> list[int]:
    """Which slides an epoch draws.

    Args:
        n_slides: Number of slides.
        n_views: How many to draw; slides come again when all were drawn.
        patients: Of every slide: all of them are drawn equally often, give or take one. Empty
            draws all slides equally often.
        rng: Draws the order.
    """
    waiting: dict[str, list[int]] = {}
    for index in rng.permutation(n_slides).tolist():
        waiting.setdefault(patients[index] if patients else "", []).append(index)
    turns = [itertools.cycle(some) for some in waiting.values()]
    even = [next(turns[place % len(turns)]) for place in range(n_views)]
    if len(turns) == 1:
        return even  # as drawn above
    return [even[place] for place in rng.permutation(n_views)]


def _by_patient(slides: Sequence[str], patients: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for slide in sorted(slides):
        # The prefix keeps a slide's own name from meeting a patient of that name.
        group = f"patient {patients[slide]}" if slide in patients else f"slide {slide}"
        groups.setdefault(group, []).append(slide)
    return groups
