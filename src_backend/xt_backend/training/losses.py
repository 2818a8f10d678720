"""Soft-label cross entropy, weighted by class and by how much of a region is annotated."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .spec import TrainSpec

__all__ = ["class_weights", "heads_loss", "soft_cross_entropy"]

MAX_WEIGHT_RATIO = 10.0
"""A class never counts more than this many times another, however rare it is."""


def class_weights(soft: torch.Tensor, weights: torch.Tensor, power: float) -> torch.Tensor:
    """Weight classes by how rare they are.

    Args:
        soft: (n, C) class shares, rows sum to 1.
        weights: (n,) weight of every region.
        power: 0 treats all regions alike, 1 gives every class the same total weight.

    Returns:
        (C,) weights, of which an average region has 1. A class that never occurs gets the largest.
    """
    share = (soft * weights[:, None]).sum(dim=0) / weights.sum()
    raw = share.clamp_min(share.max() / MAX_WEIGHT_RATIO**2).pow(-power)
    raw = raw.clamp_max(raw.min() * MAX_WEIGHT_RATIO)
    return raw / (raw * share).sum()


def soft_cross_entropy(
    logits: torch.Tensor,
    soft: torch.Tensor,
    weights: torch.Tensor,
    by_class: torch.Tensor,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross entropy against class shares.

    Args:
        logits: (n, C).
        soft: (n, C), rows sum to 1.
        weights: (n,) 0 leaves a region out.
        by_class: (C,) weights of the classes.
        smoothing: Share of the label that is spread evenly over the classes, 0 to 1.

    Returns:
        Scalar, mean over the weights; 0 when all weights are 0.
    """
    if smoothing:
        soft = soft * (1.0 - smoothing) + smoothing / soft.shape[1]
    loss = -(soft * by_class * F.log_softmax(logits, dim=1)).sum(dim=1)
    return (loss * weights).sum() / weights.sum().clamp_min(torch.finfo(loss.dtype).tiny)


def heads_loss(
    both: tuple[torch.Tensor, torch.Tensor],
    soft: torch.Tensor,
    weights: torch.Tensor,
    by_class: torch.Tensor,
    spec: TrainSpec,
) -> torch.Tensor:
    """The loss of the prediction with context and, weighted, of the region-only head.

    Args:
        both: (n, C) logits each.
        soft: As of `soft_cross_entropy`, and so are the others.
        weights: (n,).
        by_class: (C,).
        spec: Smoothing, and what the region-only head counts.
    """
    losses = [
        soft_cross_entropy(logits, soft, weights, by_class, spec.label_smoothing) for logits in both
    ]
    return losses[0] + spec.region_only_weight * losses[1]
