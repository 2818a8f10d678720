"""The decoder of dense models: from multi-scale maps and a context token to a map of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, layer_norm

from xt_backend.errors import ModelError, UsageError
from xt_backend.keys import DENSE_STRIDE

__all__ = ["DenseHead"]

_RARE = 0.01
_SMALL = 0.1
_EPSILON = 1e-6


class DenseHead(nn.Module):
    """A small U-Net-like decoder.

    From the coarsest map to the finest: scaled up, added to the next map, and convolved. The
    region's context token scales and shifts the channels after every convolution; it is brought
    to unit length first and enters without a bias, so that a token of zeros means "no context".

    Args:
        channels: C of each map of `RegionEncoder.pyramid`, finest first.
        sides: Their heights and widths.
        region_px: Side R of a region; a multiple of 4.
        dim: Size of the context token.
        n_channels: Classes of a mask, or kinds of points.
        width: Channels of the decoder.
        rare: Whether the first logits shall be low everywhere: points fill little of a heat map.

    Raises:
        ModelError: R is no multiple of 4.
    """

    def __init__(
        self,
        channels: Sequence[int],
        sides: Sequence[int],
        *,
        region_px: int,
        dim: int,
        n_channels: int,
        width: int = 64,
        rare: bool = False,
    ) -> None:
        super().__init__()
        if region_px % DENSE_STRIDE:
            raise ModelError(
                f"A region of {region_px} px has no mask at 1/{DENSE_STRIDE} of its resolution",
                f"use a region_px that is a multiple of {DENSE_STRIDE}",
            )
        self.channels = tuple(channels)
        self.dim = dim
        self.side = region_px // DENSE_STRIDE
        # One block per map, and further ones where the finest map is coarser than the mask.
        steps = max(0, math.floor(math.log2(self.side / sides[0])))
        self.sizes = (*sides[::-1], *(sides[0] * 2 ** (n + 1) for n in range(steps)))
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels[::-1])
        self.blocks = nn.ModuleList(_Block(width, dim) for _ in self.sizes)
        self.out = nn.Conv2d(width, n_channels, 1)
        if rare:
            # What rises at first where objects are, rises on all the ground between them: at the
            # usual size of weights a few steps call all of it an object. From none at all, what
            # comes before this layer learns nothing at first.
            with torch.no_grad():
                self.out.weight *= _SMALL
            nn.init.constant_(_bias(self.out), math.log(_RARE / (1 - _RARE)))

    def forward(self, pyramid: Sequence[Tensor], context_tokens: Tensor) -> Tensor:
        """Decode regions.

        Args:
            pyramid: What `RegionEncoder.pyramid` gives for n regions.
            context_tokens: (n, dim), `Prediction.context_tokens` of the regions; rows of zeros
                decode from the region alone (``--context off``).

        Returns:
            (n, n_channels, R/4, R/4) logits.

        Raises:
            UsageError: Shapes that do not fit.
        """
        n = len(context_tokens)
        given = tuple(one.shape[1] for one in pyramid)
        if given != self.channels or any(len(one) != n for one in pyramid):
            raise UsageError(
                f"the pyramid of {n} regions must have {self.channels} channels, not {given}"
            )
        if context_tokens.shape != (n, self.dim):
            raise UsageError(
                f"context_tokens must be ({n}, {self.dim}), not {tuple(context_tokens.shape)}"
            )
        context = _unit(context_tokens)
        x = self.lateral[0](pyramid[-1])
        x = self.blocks[0](_normal(x), context)
        for level, (size, following) in enumerate(pairwise(self.sizes), 1):
            if size != following:
                x = interpolate(x, size=(following, following), mode="bilinear")
            if level < len(self.lateral):
                x = x + _normal(self.lateral[level](pyramid[-1 - level]))
            x = self.blocks[level](x, context)
        logits: Tensor = self.out(x)
        if logits.shape[-1] != self.side:
            logits = interpolate(logits, size=(self.side, self.side), mode="bilinear")
        return logits


class _Block(nn.Module):
    """3 x 3 convolution, normalised over channels, modulated by the context; residual."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.modulate = nn.Linear(dim, 2 * width, bias=False)
        nn.init.zeros_(self.modulate.weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.modulate(context)[:, :, None, None].chunk(2, dim=1)
        return x + gelu(_normal(self.conv(x)) * (1 + scale) + shift)


def _normal(x: Tensor) -> Tensor:
    # Over the channels of each place: over places, a uniform region would lose what it is.
    return layer_norm(x.movedim(1, -1), (x.shape[1],)).movedim(-1, 1)


def _unit(tokens: Tensor) -> Tensor:
    return tokens * torch.rsqrt(tokens.square().mean(dim=-1, keepdim=True) + _EPSILON)


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError("a convolution without bias")
    return conv.bias
