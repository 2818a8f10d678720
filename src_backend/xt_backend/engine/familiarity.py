"""Whether a slide looks like those that a model was trained on."""

from __future__ import annotations

import torch

from xt_backend.model import ModelCard

__all__ = ["unfamiliar"]


def unfamiliar(card: ModelCard, tokens: torch.Tensor) -> str | None:
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
        f"({times:.1f} times the usual distance), so that its predictions may mean nothing"
    )
