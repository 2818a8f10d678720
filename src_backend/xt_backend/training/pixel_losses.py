"""Losses of masks and heat maps, summed, so that the chunks of a slide add up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .pixel_targets import IGNORED

__all__ = ["heat_loss", "mask_loss"]

FOCUS = 2.0
NEARNESS = 4.0


def mask_loss(logits: Tensor, labels: Tensor, by_class: Tensor) -> Tensor:
    """Cross entropy of masks.

    Args:
        logits: (n, C, h, w).
        labels: (n, h, w) int64, `IGNORED` where nobody annotated.
        by_class: (C,) weights of the classes.

    Returns:
        Scalar: the sum over regions of their mean over pixels, those ignored counting as 0.
    """
    total = F.cross_entropy(
        logits, labels, weight=by_class.to(logits.dtype), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels.shape[1] * labels.shape[2])


def heat_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Focal loss of heat maps, weaker the nearer a pixel is to an object (Law and Deng, ECCV 2018).

    Args:
        logits: (n, K, h, w).
        heat: (n, K, h, w) in 0 to 1, 1 at the objects; NaN where nobody looked.

    Returns:
        Scalar: the sum over all pixels; divide by the number of objects.
    """
    known = heat.isfinite()
    heat = torch.where(known, heat, 0.0)
    probability = logits.sigmoid()
    at_object = heat == 1.0
    hit = (1 - probability) ** FOCUS * F.logsigmoid(logits)
    miss = (1 - heat) ** NEARNESS * probability**FOCUS * F.logsigmoid(-logits)
    return -(torch.where(at_object, hit, miss) * known).sum()
