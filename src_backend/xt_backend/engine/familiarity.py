"""Whether a slide looks like those that a model was trained on."""

from __future__ import annotations

import hashlib

import torch

from xt_backend.keys import CardMetrics
from xt_backend.model import ModelCard
from xt_backend.slides import COLOUR_NUMBERS, Slide, Thumbnail, stained_colours

__all__ = ["corrected_here", "corrected_mark", "unfamiliar_colours", "unfamiliar_regions"]

_FURTHER = 0.2
"""By how much (natural logarithm, about a fifth) colours may lie outside the training's range."""

# Of light that is taken away: below the range, above it.
_WORDS = {
    "red": ("redder", "bluer"),
    "blue": ("more violet", "more yellow"),
    "strength": ("paler", "darker"),
}


def corrected_mark(identity: str) -> str:
    """What stands for a slide in the card of a model that was corrected on it; names nothing.

    Args:
        identity: Of the slide's content.
    """
    return hashlib.sha256(f"napari-xt corrected slide {identity}".encode()).hexdigest()[:32]


def corrected_here(card: ModelCard, slide: Slide) -> str | None:
    """A warning where a model was corrected by hand on this very slide.

    Args:
        card: Of the model.
        slide: That it is to judge.

    Raises:
        SlideError: A file of the slide can't be read any more.
    """
    mark = ""
    tuning = card.metrics.get(CardMetrics.TUNING)
    while isinstance(tuning, dict):
        mark = mark or corrected_mark(slide.identity())
        marks = tuning.get(CardMetrics.TUNING_SLIDES)
        if isinstance(marks, list) and mark in marks:
            return (
                f"{card.name} was corrected by hand on this very slide; that it is right here says "
                "nothing of other slides"
            )
        tuning = tuning.get(CardMetrics.TUNING_EARLIER)
    return None


def unfamiliar_colours(card: ModelCard, thumbnail: Thumbnail) -> str | None:
    """A warning where a slide is stained unlike the training slides.

    Args:
        card: Holds the range of their colours.
        thumbnail: Of the whole slide.

    Returns:
        None where the colours are alike, or where there is nothing to compare.
    """
    colours = stained_colours(thumbnail) if card.colour_range else None
    if colours is None:
        return None
    unlike = []
    for name, value in zip(COLOUR_NUMBERS, colours, strict=True):
        low, high = card.colour_range.get(name, (value, value))
        if not low - _FURTHER <= value <= high + _FURTHER:
            unlike.append(_WORDS[name][value > high])
    if not unlike:
        return None
    return (
        f"out of distribution: the slide is {' and '.join(unlike)} than those that {card.name} was "
        "trained on; its predictions may mean nothing"
    )


def unfamiliar_regions(card: ModelCard, tokens: torch.Tensor) -> str | None:
    """A warning where the regions of a slide are out of the training's distribution.

    Args:
        card: Holds the statistics of the training regions.
        tokens: (n, k * k, p) whitened features of the slide's scored regions.

    Returns:
        None where they are alike, or where the model's card has nothing to compare with.
    """
    stats = card.feature_stats
    if stats is None or stats.limit is None:
        return None
    rows = tokens.flatten(0, -2).double()
    rows = rows[rows.isfinite().all(dim=1)]
    if not len(rows) or rows.shape[1] != len(stats.mean):
        return None
    times = stats.distance(rows.mean(dim=0).tolist()) / stats.limit
    if times <= 1.0:
        return None
    return (
        f"out of distribution: its regions look unlike those that {card.name} was trained on "
        f"({times:.1f} times the limit)"
    )
