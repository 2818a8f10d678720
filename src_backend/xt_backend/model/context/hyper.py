"""Hyper attention: sorted blocks and a sample of all others in place of all pairs; linear."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from xt_backend.model.context.attention import AttentionContext
from xt_backend.model.context.base import check_option
from xt_backend.model.orders import reading_order
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM, rotations

__all__ = ["HyperContext", "hyper_attention"]

MOST_EXACT = 4096
"""Fields longer than this never get exact attention."""

_BLOCKS_AT_ONCE = 16


class HyperContext(AttentionContext):
    """Pre-norm transformer encoder whose attention is approximated for long fields.

    Hyper attention (Han et al., arXiv 2310.05869): queries and keys are sorted by a
    locality-sensitive hash of their direction, each block of queries sees the block of keys at the
    same rank, and all other keys are estimated from a sample. Hash and sample are drawn once, when
    the encoder is built, and stored with its weights.

    Args:
        exact: Fields of up to this many tokens get exact attention.
        block: Keys that a query sees exactly in longer ones.
        samples: Keys that stand for all others.
        hashes: Bits of the hash.
        heads: Number of heads, a divisor of `dim`; None for up to 8 of at least 32 channels.
        mlp_ratio: Hidden size of the feed-forward part over `dim`.
        dropout: Share of values dropped in training.
        positions: ``rotary``, ``sincos`` (added to the tokens) or ``none``.
    """

    kind = "hyper"
    hash_directions: Tensor
    sample_places: Tensor

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        exact: int = MOST_EXACT,
        block: int = 256,
        samples: int = 256,
        hashes: int = 8,
        heads: int | None = None,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        positions: str = "rotary",
        wavelengths_um: Sequence[float] = DEFAULT_WAVELENGTHS_UM,
    ) -> None:
        super().__init__(
            dim,
            layers,
            heads=heads,
            mlp_ratio=mlp_ratio,
            dropout=dropout,
            positions=positions,
            wavelengths_um=wavelengths_um,
        )
        for name, value, most in (("block", block, 4096), ("samples", samples, 4096)):
            check_option(name, value, 1 <= value <= most, f"1 to {most}")
        check_option("exact", exact, 0 <= exact <= MOST_EXACT, f"0 to {MOST_EXACT}")
        check_option("hashes", hashes, 1 <= hashes <= 16, "1 to 16")
        self.exact = exact
        self.block = block
        directions = torch.randn(layers, self.heads, dim // self.heads, hashes)
        self.register_buffer("hash_directions", directions)
        # One in each of as many equal parts of the field, in raster order.
        places = (torch.arange(samples) + torch.rand(layers, samples)) / samples
        self.register_buffer("sample_places", places)

    def mix(self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None) -> Tensor:
        """See `ContextEncoder.mix`."""
        if tokens.shape[1] <= self.exact:
            return super().mix(tokens, positions_um, padding_mask)
        mixed = torch.zeros_like(tokens)
        for row in range(len(tokens)):
            order = reading_order(positions_um[row, None])[0]
            if padding_mask is not None:
                order = order[~padding_mask[row, order]]
            if not len(order):
                continue
            field = tokens[row, None, order]
            places = positions_um[row, None, order]
            if len(order) > self.exact:
                found = self._mix_long(field, places)
            else:
                found = super().mix(field, places, None)
            mixed = mixed.index_put((torch.tensor(row, device=order.device), order), found[0])
        return mixed

    def _mix_long(self, tokens: Tensor, positions_um: Tensor) -> Tensor:
        turn = None
        if self.positions == "rotary":
            size = self.dim // self.heads
            turn = rotations(positions_um, self.heads, size, self.wavelengths_um)
        length = tokens.shape[1]
        for index, block in enumerate(self.blocks):
            sampled = (self.sample_places[index] * length).long().clamp_max(length - 1)
            attend = functools.partial(
                hyper_attention,
                directions=self.hash_directions[index],
                sampled=sampled,
                block=self.block,
            )
            tokens = self.run_block(block, tokens, attend, turn)
        return tokens


def hyper_attention(
    query: Tensor, key: Tensor, value: Tensor, *, directions: Tensor, sampled: Tensor, block: int
) -> Tensor:
    """Attention over the keys at a query's rank and a weighted sample of all others.

    Args:
        query: (B, H, L, P).
        key: (B, H, L, P).
        value: (B, H, L, P).
        directions: (H, P, bits); on which side of them a vector lies is its hash.
        sampled: (M,) int64 indices into L.
        block: Keys at a rank, the last block may have fewer.

    Returns:
        (B, H, L, P).
    """
    batch, heads, length, size = query.shape
    n_blocks = -(-length // block)
    by_query = _ranks(query, directions).argsort(dim=2, stable=True)
    by_key = _ranks(key, directions).argsort(dim=2, stable=True)
    home = by_key.argsort(dim=2)[:, :, sampled] // block  # (B, H, M)
    far_key, far_value = key[:, :, sampled], value[:, :, sampled]
    # The last block is filled up with any tokens, which are masked or cut off.
    missing = n_blocks * block - length
    queries, keys = (pad(order, (0, missing)) for order in (by_query, by_key))
    parts = []
    for first in range(0, n_blocks, _BLOCKS_AT_ONCE):
        ranks = torch.arange(first, min(first + _BLOCKS_AT_ONCE, n_blocks), device=query.device)
        some = slice(first * block, (first + len(ranks)) * block)
        near = (batch, heads, len(ranks), block, size)
        seen_key, seen_value = (
            torch.cat([_take(rows, keys[:, :, some]).view(near), _for_each(far, len(ranks))], 3)
            for rows, far in ((key, far_key), (value, far_value))
        )
        bias = _bias(ranks, home, length, block, query.dtype)
        found = scaled_dot_product_attention(
            _take(query, queries[:, :, some]).view(near).flatten(1, 2),
            seen_key.flatten(1, 2),
            seen_value.flatten(1, 2),
            attn_mask=bias.flatten(1, 2).unsqueeze(2).expand(-1, -1, block, -1),
        )
        parts.append(found.reshape(batch, heads, -1, size))
    return _take(torch.cat(parts, dim=2), by_query.argsort(dim=2))


def _bias(ranks: Tensor, home: Tensor, length: int, block: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of blocks at these ranks: (B, H, ranks, block + M).

    Nothing for the keys of the block itself; for a sampled key the logarithm of how many others it
    stands for, but minus infinity for one that the block sees already.
    """
    elsewhere = home.unsqueeze(2) != ranks[:, None]
    seen = (length - ranks * block).clamp_max(block)
    others = (length - seen).to(dtype) / elsewhere.sum(dim=3).clamp_min(1)
    weight = others.log().unsqueeze(3).expand_as(elsewhere)
    weight = weight.masked_fill(~elsewhere, float("-inf"))
    beyond = torch.arange(block, device=ranks.device) >= seen[:, None]
    own = torch.zeros(beyond.shape, dtype=dtype, device=ranks.device)
    own = own.masked_fill(beyond, float("-inf"))
    return torch.cat([own.expand(*home.shape[:2], *own.shape), weight], dim=3)


def _for_each(rows: Tensor, count: int) -> Tensor:
    """The same rows (B, H, M, P) for each of some blocks: (B, H, count, M, P)."""
    return rows.unsqueeze(2).expand(-1, -1, count, -1, -1)


def _ranks(vectors: Tensor, directions: Tensor) -> Tensor:
    """(B, H, L) int64 bucket of each vector; buckets next to each other differ in one bit."""
    sides = (vectors.detach() @ directions.to(vectors.dtype)) > 0
    rank = torch.zeros(vectors.shape[:3], dtype=torch.int64, device=vectors.device)
    turned = torch.zeros_like(rank)
    for bit in sides.unbind(dim=3):  # from Gray code to the number that it stands for
        turned = turned ^ bit.long()
        rank = rank * 2 + turned
    return rank


def _take(rows: Tensor, order: Tensor) -> Tensor:
    """Rows (B, H, L, P) at places (B, H, N): (B, H, N, P)."""
    batch, heads, length, size = rows.shape
    start = torch.arange(batch * heads, device=rows.device).view(batch, heads, 1) * length
    found = rows.reshape(-1, size).index_select(0, (start + order).flatten())
    return found.view(*order.shape, size)
