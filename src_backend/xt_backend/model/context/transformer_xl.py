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
        heads: Number of heads, a divisor of `dim`; None for up to 8 of at least 32 channels.
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
        segment: int = 256,
        memory: int = 256,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        order: str = "alternate",
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
        ways = self.ways()
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
        length = tokens.shape[1]
        along = self._along(min(length, self.segment + self.memory), tokens)
        keys = None if self.training else self._keys(tokens)
        parts = []
        for start in range(0, length, self.segment):
            part = tokens[:, start : start + self.segment]
            first = max(start - self.memory, 0)
            if keys is None:
                memory = tokens[:, first:start].detach()
                seen = self._keys(torch.cat([memory, part], dim=1))
            else:
                seen = keys[:, :, :, first : start + self.segment]
            parts.append(part + self.dropout(self._attend(part, seen, along)))
        out: Tensor = self.feed_forward(torch.cat(parts, dim=1))
        return out

    def _along(self, count: int, like: Tensor) -> Tensor:
        """(H, P, count) what distances count - 1 to 0 mean to a query, scaled as scores are."""
        along = self.distance(distance_waves(count, like.shape[-1], like))
        along = along.view(count, self.heads, -1).permute(1, 2, 0)
        scaled: Tensor = along / along.shape[1] ** 0.5
        return scaled

    def _keys(self, tokens: Tensor) -> Tensor:
        """Keys and values (2, B, H, L, P)."""
        batch, length, _ = tokens.shape
        pairs = self.key_value(self.norm(tokens)).view(batch, length, 2, self.heads, -1)
        found: Tensor = pairs.permute(2, 0, 3, 1, 4)
        return found

    def _attend(self, part: Tensor, seen: Tensor, along: Tensor) -> Tensor:
        batch, n_queries, dim = part.shape
        n_keys = seen.shape[3]
        query = self.query(self.norm(part)).view(batch, n_queries, self.heads, -1)
        by_distance = (query + self.distance_bias).transpose(1, 2) @ along[:, :, -n_keys:]
        content = (query + self.content_bias).transpose(1, 2)
        scores = by_key(by_distance)
        mixed = scaled_dot_product_attention(content, seen[0], seen[1], attn_mask=scores)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, n_queries, dim))
        return out


def distance_waves(count: int, dim: int, like: Tensor) -> Tensor:
    """Sines and cosines of the distances count - 1, ..., 1, 0 in tokens: (count, dim)."""
    half = (dim + 1) // 2
    places = torch.arange(count - 1, -1, -1.0, dtype=like.dtype, device=like.device)
    exponent = torch.arange(half, dtype=like.dtype, device=like.device) / half
    phase = places[:, None] / 10000.0**exponent
    return torch.cat([phase.sin(), phase.cos()], dim=-1)[:, :dim]


def by_key(by_distance: Tensor) -> Tensor:
    """Turn columns that count distances down into columns of keys, minus infinity in the future.

    Row i of the input holds the distances n_keys - 1 to 0. Key j lies i + n_keys - n_queries - j
    tokens back, so row i has to move left by n_queries - 1 - i. With n_queries columns of minus
    infinity behind, that is the same numbers read in rows that are one shorter: a view.

    Args:
        by_distance: (B, H, n_queries, n_keys).

    Returns:
        (B, H, n_queries, n_keys) without a copy of the scores by key.
    """
    batch, heads, n_queries, n_keys = by_distance.shape
    flat = pad(by_distance, (0, n_queries), value=float("-inf")).flatten(2)
    # Rows of n_keys + n_queries become rows of one less, from the first row's shift on.
    width = n_keys + n_queries - 1
    shifted = flat[:, :, n_queries - 1 : n_queries - 1 + n_queries * width]
    return shifted.view(batch, heads, n_queries, width)[..., :n_keys]
