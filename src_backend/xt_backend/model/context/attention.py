"""Full attention: every token sees every other; exact, and quadratic in their number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xt_backend.model.context.base import (
    TOKENS_AT_ONCE,
    ContextEncoder,
    FeedForward,
    check_option,
    default_heads,
)
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM, rotate, rotations

__all__ = ["AttentionBlock", "AttentionContext"]


class AttentionContext(ContextEncoder):
    """Pre-norm transformer encoder.

    Rotary positions, the default, only tell tokens how they lie to each other: a field gives the
    same result wherever it is on the glass. Added ones take far longer to learn that.

    Args:
        heads: Number of heads, a divisor of `dim`; None for up to 8 of at least 32 channels.
        mlp_ratio: Hidden size of the feed-forward part over `dim`.
        dropout: Share of values dropped in training.
        positions: ``rotary``, ``sincos`` (added to the tokens) or ``none``.
    """

    kind = "attention"
    position_kinds = ("rotary", "sincos", "none")

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        heads: int | None = None,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        positions: str = "rotary",
        wavelengths_um: Sequence[float] = DEFAULT_WAVELENGTHS_UM,
    ) -> None:
        super().__init__(dim, layers, positions=positions, wavelengths_um=wavelengths_um)
        check_option("dropout", dropout, 0 <= dropout < 1, "0 to below 1")
        self.heads = default_heads(dim, heads)
        if positions == "rotary":
            size = dim // self.heads
            check_option("heads", self.heads, size >= 4, "heads of at least 4 channels if rotary")
        self.blocks = nn.ModuleList(
            AttentionBlock(dim, self.heads, mlp_ratio, dropout) for _ in range(layers)
        )

    def mix(self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None) -> Tensor:
        """See `ContextEncoder.mix`."""
        visible = None
        if padding_mask is not None:
            # A field of nothing but padding would give 0 / 0; its output is zeroed anyway.
            all_padding = padding_mask.all(dim=1, keepdim=True)
            visible = (~padding_mask | all_padding)[:, None, None, :]
        turn = None
        if self.positions == "rotary":
            size = self.dim // self.heads
            turn = rotations(positions_um, self.heads, size, self.wavelengths_um)
        attend = functools.partial(scaled_dot_product_attention, attn_mask=visible)
        for block in self.blocks:
            tokens = self.run_block(block, tokens, attend, turn)
        return tokens


class AttentionBlock(nn.Module):
    """One pre-norm layer; what queries, keys and values (B, H, L, P) become is given to it."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(dim, mlp_ratio, dropout)

    def forward(
        self,
        tokens: Tensor,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
        turn: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        batch, length, dim = tokens.shape
        parts = []
        for start in range(0, length, TOKENS_AT_ONCE):
            some = slice(start, start + TOKENS_AT_ONCE)
            turned = None if turn is None else (turn[0][:, :, some], turn[1][:, :, some])
            parts.append(self._project(tokens[:, some], turned))
        mixed = attend(*(torch.cat(kind, dim=2) for kind in zip(*parts, strict=True)))
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        out: Tensor = self.feed_forward(tokens + self.dropout(mixed))
        return out

    def _project(
        self, tokens: Tensor, turn: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, L, P)."""
        qkv = self.qkv(self.norm(tokens)).view(*tokens.shape[:2], 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if turn is not None:
            query, key = rotate(query, *turn), rotate(key, *turn)
        return query, key, value
