"""Transformer-XL: attention in segments, with a memory of the one before; linear in tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from xt_backend.model.context.base import (
    FeedForward,
    SequenceContext,
    check_option,
    default_heads,
)
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM

__all__ = ["TransformerXLContext"]


class TransformerXLContext(SequenceContext):
    """Pre-norm causal attention with relative positions over a segment and its memory.

    A layer's token sees the tokens of its segment up to itself and the `memory` tokens before the
    segment. In training no gradient flows into the memory, as in the paper; in eval mode nothing
    is detached, so that gradients show all influence.

    `reach_tokens` is how far influence can travel along the sequence: over all layers that read
    the same way, each carries it by one segment and its memory at most.

    Args:
        heads: Number of heads, a divisor of `dim`; None for up to 8 of at least 16 channels.
        segment: Tokens per segment.
        memory: Tokens before the segment that it sees.
        mlp_ratio: Hidden size of the feed-forward part over `dim`.
        dropout: Share of values dropped in training.
    """

    kind = "transformer-xl"

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        heads: int | None = None,
        segment: int = 512,
        memory: int = 512,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        order: str = "raster",
        bidirectional: bool = True,
        positions: str = "sincos",
        wavelengths_um: Sequence[float] = DEFAULT_WAVELENGTHS_UM,
    ) -> None:
        super().__init__(
            dim,
            layers,
            order=order,
            bidirectional=bidirectional,
            positions=positions,
            wavelengths_um=wavelengths_um,
        )
        check_option("segment", segment, 1 <= segment <= 65536, "1 to 65536")
        check_option("memory", memory, 0 <= memory <= 65536, "0 to 65536")
        check_option("dropout", dropout, 0 <= dropout < 1, "0 to below 1")
        self.blocks = nn.ModuleList(
            TransformerXLBlock(
                dim,
                heads=default_heads(dim, heads),
                segment=segment,
                memory=memory,
                mlp_ratio=mlp_ratio,
                dropout=dropout,
            )
            for _ in range(layers)
        )
        ways = self.directions()
        self.reach_tokens = (segment - 1 + memory) * max(ways.count(way) for way in set(ways))


class TransformerXLBlock(nn.Module):
    """One layer, reading forwards."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        segment: int,
        memory: int,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.heads, self.segment, self.memory = heads, segment, memory
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.distance = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.distance_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.out = nn.Linear(dim, dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(dim, mlp_ratio, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        parts = []
        for start in range(0, tokens.shape[1], self.segment):
            part = tokens[:, start : start + self.segment]
            memory = tokens[:, max(start - self.memory, 0) : start]
            if self.training:
                memory = memory.detach()
            parts.append(part + self.dropout(self._attend(part, memory)))
        out: Tensor = self.feed_forward(torch.cat(parts, dim=1))
        return out

    def _attend(self, part: Tensor, memory: Tensor) -> Tensor:
        batch, n_queries, dim = part.shape
        seen = self.norm(torch.cat([memory, part], dim=1))
        n_keys = seen.shape[1]
        query = self.query(seen[:, -n_queries:]).view(batch, n_queries, self.heads, -1)
        key, value = (
            self.key_value(seen).view(batch, n_keys, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        along = self.distance(distance_waves(n_keys, dim, part))
        along = along.view(n_keys, self.heads, -1).permute(1, 2, 0)  # (H, P, keys)
        along = along / key.shape[-1] ** 0.5
        scores = _shift((query + self.distance_bias).transpose(1, 2) @ along)
        future = torch.ones(n_queries, n_keys, dtype=torch.bool, device=part.device)
        scores = scores.masked_fill_(future.triu_(1 + n_keys - n_queries), float("-inf"))
        content = (query + self.content_bias).transpose(1, 2)
        mixed = scaled_dot_product_attention(content, key, value, attn_mask=scores)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, n_queries, dim))
        return out


def distance_waves(count: int, dim: int, like: Tensor) -> Tensor:
    """Sines and cosines of the distances count - 1, ..., 1, 0 in tokens: (count, dim)."""
    half = (dim + 1) // 2
    places = torch.arange(count - 1, -1, -1.0, dtype=like.dtype, device=like.device)
    exponent = torch.arange(half, dtype=like.dtype, device=like.device) / half
    phase = places[:, None] / 10000.0**exponent
    return torch.cat([phase.sin(), phase.cos()], dim=-1)[:, :dim]


def _shift(by_distance: Tensor) -> Tensor:
    """Turn columns that count distances down into columns of keys.

    Row i of the input holds the distances n_keys - 1 to 0. Key j lies i + n_keys - n_queries - j
    tokens back, so row i has to move left by n_queries - 1 - i; what wraps around lies in the
    future and is masked by the caller.
    """
    n_queries, n_keys = by_distance.shape[-2:]
    padded = pad(by_distance, (1, 0)).reshape(*by_distance.shape[:-2], n_keys + 1, n_queries)
    return padded[..., 1:, :].reshape(by_distance.shape)
