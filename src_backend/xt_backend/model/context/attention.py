"""Full attention: every token sees every other; exact, and quadratic in their number."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xt_backend.model.context.base import (
    ContextEncoder,
    FeedForward,
    check_option,
    default_heads,
)
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM, rotate, rotations

__all__ = ["AttentionContext"]


class AttentionContext(ContextEncoder):
    """Pre-norm transformer encoder.

    Rotary positions, the default, only tell tokens how they lie to each other: a field gives the
    same result wherever it is on the glass. Added ones take far longer to learn that.

    Args:
        heads: Number of heads, a divisor of `dim`; None for up to 8 of at least 16 channels.
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
            _Block(dim, self.heads, mlp_ratio, dropout) for _ in range(layers)
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
        for block in self.blocks:
            tokens = block(tokens, visible, turn)
        return tokens


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = FeedForward(dim, mlp_ratio, dropout)

    def forward(
        self, tokens: Tensor, visible: Tensor | None, turn: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        batch, length, dim = tokens.shape
        qkv = self.qkv(self.norm(tokens)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if turn is not None:
            query, key = rotate(query, *turn), rotate(key, *turn)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=visible)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        out: Tensor = self.feed_forward(tokens + self.dropout(mixed))
        return out
