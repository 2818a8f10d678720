"""Several fields padded to one length, and the model run on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.model import XT
from xt_backend.model.positions import token_positions_um

from .augment import View
from .metrics import confusion_matrix

__all__ = ["Batch", "count_tokens", "decode", "packed"]

TOKENS_AT_ONCE = 32_768
"""Tokens whose activations are held together, padding included, unless one field has more."""


@dataclass(frozen=True)
class Batch:
    """B fields of up to N regions each.

    Attributes:
        tokens: (B, N, k*k, P) float32 whitened components; zeros where padding.
        positions_um: (B, N, 2) float64.
        padding: (B, N) bool, True = padding.
        soft: (M, C) float32, of the M regions that are not padding, or of the M = B slides.
        weights: (M,) float32.
    """

    tokens: Tensor
    positions_um: Tensor
    padding: Tensor
    soft: Tensor
    weights: Tensor

    @classmethod
    def of(cls, views: Sequence[View], device: torch.device) -> Batch:
        """Pad views to the longest and put them on a device."""
        longest = max(len(view) for view in views)
        shape = (len(views), longest)
        tokens = np.zeros((*shape, *views[0].tokens.shape[1:]), np.float32)
        positions_um = np.zeros((*shape, 2))
        padding = np.ones(shape, np.bool_)
        for row, view in enumerate(views):
            tokens[row, : len(view)] = view.tokens
            positions_um[row, : len(view)] = view.positions_um
            padding[row, : len(view)] = False
        places = torch.from_numpy(positions_um)
        return cls(
            torch.from_numpy(tokens).to(device),
            # Apple's GPUs have no float64.
            (places.float() if device.type == "mps" else places).to(device),
            torch.from_numpy(padding).to(device),
            torch.from_numpy(np.concatenate([view.soft for view in views])).to(device),
            torch.from_numpy(np.concatenate([view.weights for view in views])).to(device),
        )

    def confusion(self, logits: Tensor) -> npt.NDArray[np.float64]:
        """(C, C + 1) counts of what has a weight: largest share against largest logit."""
        counted = self.weights > 0
        true = self.soft[counted].argmax(dim=1).cpu().numpy()
        predicted = logits[counted].argmax(dim=1).cpu().numpy()
        return confusion_matrix(true, predicted, self.soft.shape[1])


def decode(model: XT, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (M, C) with context and of the region-only head, of all regions or all slides.

    The same as `XT.decode`, but from tokens that are white already, so that training can blur
    and blank them, and without padding.
    """
    card = model.card
    if card.task == "slide":
        found = model.decode_reduced(batch.tokens, batch.positions_um, batch.padding)
        if found.slide_logits is None or found.region_only_slide_logits is None:
            raise TypeError("a slide-task model gave no logits of slides")
        return found.slide_logits, found.region_only_slide_logits
    n_fields, n_regions, per_region, _ = batch.tokens.shape
    valid = ~batch.padding
    alone = model.region_only_head(batch.tokens[valid])
    mixed = model.context(
        model.reduce.project(batch.tokens).flatten(1, 2),
        token_positions_um(batch.positions_um, card.tokens_per_region, card.region_um),
        batch.padding.repeat_interleave(per_region, dim=1),
    )
    regions = mixed.reshape(n_fields, n_regions, per_region, -1)[valid]
    if model.region_head is None:
        raise TypeError("training on regions needs a region-task model")
    return model.region_head(regions), alone


def count_tokens(views: Sequence[View]) -> int:
    """Tokens of several views."""
    return sum(view.tokens.shape[0] * view.tokens.shape[1] for view in views)


def packed(views: Sequence[View]) -> Iterator[list[View]]:
    """Divide views, in order, such that few padded tokens are held together."""
    part: list[View] = []
    for view in views:
        longest = max(count_tokens([one]) for one in [*part, view])
        if part and longest * (len(part) + 1) > TOKENS_AT_ONCE:
            yield part
            part = []
        part.append(view)
    if part:
        yield part
