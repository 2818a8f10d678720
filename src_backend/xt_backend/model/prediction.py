"""What a model says about the regions of a field."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Prediction"]


@dataclass(frozen=True)
class Prediction:
    """Logits of the N regions of one field, or of B fields with a leading B.

    Attributes:
        logits: (N, C) with context. For slide-task models: what the slide head makes of each
            region's own token after context.
        region_only_logits: (N, C) of the head that sees each region by itself; NaN for models
            that have none.
        context_tokens: (N, dim) mean of each region's tokens after context; what `dense_head`
            takes. NaN where the logits are. (N, 0) for models that have no such head.
        slide_logits: (C,) for slide-task models, NaN for a field without regions; else None.
        region_only_slide_logits: (C,) for slide-task models, the mean of `region_only_logits`.
        slide_token: (dim,) for slide-task models: what `slide_logits` are made of.
    """

    logits: Tensor
    region_only_logits: Tensor
    context_tokens: Tensor
    slide_logits: Tensor | None = None
    region_only_slide_logits: Tensor | None = None
    slide_token: Tensor | None = None
