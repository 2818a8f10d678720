"""What all context encoders share: the contract, positions, padding and reading order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xt_backend.errors import ModelError, UsageError
from xt_backend.model.orders import ORDERS, reading_order, way_of_layer
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM, sincos_2d

__all__ = [
    "TOKENS_AT_ONCE",
    "ContextEncoder",
    "FeedForward",
    "SequenceContext",
    "check_option",
    "default_heads",
]


TOKENS_AT_ONCE = 4096
"""Tokens that go through a projection together: what it makes of them stays small."""

LONG_FIELD = 16384
"""Tokens of a field from which on, in training, a layer is computed twice rather than kept."""


class ContextEncoder(nn.Module, ABC):
    """Lets tokens of one field see each other.

    Places enter here and nowhere else in a model: as sines and cosines of x and y in um that are
    added to the tokens (`sincos_2d`), or by which queries and keys are turned (`rotate`). Layers
    then mix, and a last norm follows.

    Args:
        dim: Size D of the tokens, in and out.
        layers: Number of blocks.
        positions: ``sincos`` (added), ``none``, or what else the kind offers.
        wavelengths_um: Shortest and longest wave of the positions.

    Raises:
        ModelError: An option is out of range.
    """

    kind: ClassVar[str]
    position_kinds: ClassVar[tuple[str, ...]] = ("sincos", "none")
    reach_tokens: int | None = None
    """How far one token can see, in tokens before or after it; None is the whole field."""

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        positions: str = "sincos",
        wavelengths_um: Sequence[float] = DEFAULT_WAVELENGTHS_UM,
    ) -> None:
        super().__init__()
        check_option("layers", layers, layers >= 1, "at least 1")
        kinds = self.position_kinds
        check_option("positions", positions, positions in kinds, " or ".join(kinds))
        waves = tuple(float(wave) for wave in wavelengths_um)
        good = len(waves) == 2 and 0 < waves[0] <= waves[1]
        check_option("wavelengths_um", waves, good, "two lengths, shortest first")
        if positions == "sincos":
            check_option("dim", dim, dim >= 4, "at least 4 with positions")
        self.dim = dim
        self.layers = layers
        self.positions = positions
        self.wavelengths_um = (waves[0], waves[1])
        self.norm: nn.Module = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None = None
    ) -> Tensor:
        """Run the tokens of B fields through the layers.

        Args:
            tokens: (B, L, D) float. What lies at padding places has no influence, NaN included.
            positions_um: (B, L, 2) x, y of each token in um.
            padding_mask: (B, L) bool, True = padding, at any places.

        Returns:
            (B, L, D); zeros at padding places.

        Raises:
            UsageError: Shapes or the mask's dtype do not fit.
        """
        check_field(tokens, positions_um, padding_mask, self.dim)
        if tokens.numel() == 0:
            return tokens
        if padding_mask is None or not bool(padding_mask.any()):
            return self._encode(tokens, positions_um, None)
        padding = padding_mask.unsqueeze(-1)
        tokens = tokens.masked_fill(padding, 0.0)
        positions_um = positions_um.masked_fill(padding, 0)
        return self._encode(tokens, positions_um, padding_mask).masked_fill(padding, 0.0)

    @abstractmethod
    def mix(self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Run the layers; same shapes as `forward`, padding zeroed before and after."""

    def run_block(self, block: nn.Module, tokens: Tensor, *more: object) -> Tensor:
        """What a layer makes of tokens, with memory for one layer at a time in long fields."""
        # In eval mode, too: questions ask a model for gradients with respect to its tokens.
        if tokens.shape[1] >= LONG_FIELD and torch.is_grad_enabled() and tokens.requires_grad:
            again: Tensor = checkpoint(block, tokens, *more, use_reentrant=False)
            return again
        made: Tensor = block(tokens, *more)
        return made

    def _encode(self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None) -> Tensor:
        if self.positions == "sincos":
            encoded = sincos_2d(positions_um, self.dim, self.wavelengths_um)
            tokens = tokens + encoded.to(tokens.dtype)
        mixed: Tensor = self.norm(self.mix(tokens, positions_um, padding_mask))
        return mixed


class SequenceContext(ContextEncoder):
    """A context encoder whose blocks read tokens one after the other, in one direction each.

    Args:
        order: Along what the layers read, one of `ORDERS`; see `way_of_layer`. For no kind did
            another order do better than the default beyond what seeds differ by
            (docs/benchmarks.md, made by `napari-xt bench orders`).
        bidirectional: False lets every layer read forwards.
    """

    blocks: nn.ModuleList

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        order: str = "alternate",
        bidirectional: bool = True,
        positions: str = "sincos",
        wavelengths_um: Sequence[float] = DEFAULT_WAVELENGTHS_UM,
    ) -> None:
        super().__init__(dim, layers, positions=positions, wavelengths_um=wavelengths_um)
        check_option("order", order, order in ORDERS, ", ".join(ORDERS))
        self.order = order
        self.bidirectional = bidirectional

    def ways(self) -> list[tuple[str, bool, bool]]:
        """(path, x and y exchanged, backward) of each layer, first layer first."""
        return [
            way_of_layer(self.order, from_last, self.bidirectional)
            for from_last in reversed(range(self.layers))
        ]

    def mix(self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None) -> Tensor:
        """See `ContextEncoder.mix`."""
        # Blocks only look back, and padding is read last: no block needs to know about it.
        orders: dict[tuple[str, bool, bool], Tensor] = {}
        place: Tensor | None = None  # where each token is in the sequence as it lies now
        for block, way in zip(self.blocks, self.ways(), strict=True):
            if way not in orders:
                path, exchanged, backward = way
                orders[way] = reading_order(
                    positions_um, padding_mask, path=path, exchanged=exchanged, backward=backward
                )
            wanted = orders[way]
            taken = _take(tokens, wanted if place is None else place.gather(1, wanted))
            tokens = self.run_block(block, taken)
            place = wanted.argsort(dim=1)
        return tokens if place is None else _take(tokens, place)


class FeedForward(nn.Module):
    """Pre-norm two-layer perceptron with a residual.

    Args:
        dim: Size of the tokens.
        ratio: Size of the hidden layer over `dim`.
        dropout: Share of values dropped in training.
    """

    def __init__(self, dim: int, ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        check_option("mlp_ratio", ratio, 1 <= hidden <= 16 * dim, "above 1 / dim and at most 16")
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        parts = torch.split(tokens, TOKENS_AT_ONCE, dim=1)
        return torch.cat([self._part(part) for part in parts], dim=1)

    def _part(self, tokens: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.up(self.norm(tokens)))
        out: Tensor = tokens + self.dropout(self.down(self.dropout(hidden)))
        return out


def check_option(name: str, value: object, good: bool, rule: str) -> None:
    """Raise a ModelError that names the option, its value and the rule unless `good`."""
    if not good:
        raise ModelError(f"Context option {name} = {value!r} is out of range", f"it must be {rule}")


def default_heads(dim: int, heads: int | None) -> int:
    """The number of attention heads: as asked for, or of at least 32 channels each, up to 8.

    Raises:
        ModelError: The heads do not divide `dim`.
    """
    if heads is None:
        return max(n for n in (1, 2, 4, 8) if n == 1 or (dim % n == 0 and dim // n >= 32))
    good = heads >= 1 and dim % heads == 0
    check_option("heads", heads, good, f"a divisor of the dimension {dim}")
    return heads


def check_field(
    tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None, dim: int
) -> None:
    """Raise a UsageError unless the shapes fit the contract of `ContextEncoder.forward`."""
    if tokens.ndim != 3 or tokens.shape[-1] != dim:
        raise UsageError(f"tokens must be (B, L, {dim}), not {tuple(tokens.shape)}")
    shape = tokens.shape[:2]
    if positions_um.shape != (*shape, 2):
        raise UsageError(f"positions_um must be {(*shape, 2)}, not {tuple(positions_um.shape)}")
    if padding_mask is None:
        return
    if padding_mask.shape != shape or padding_mask.dtype != torch.bool:
        raise UsageError(
            f"padding_mask must be bool {tuple(shape)}, not {padding_mask.dtype} "
            f"{tuple(padding_mask.shape)}"
        )


def _take(tokens: Tensor, order: Tensor) -> Tensor:
    """Tokens (B, L, D) in an order (B, L)."""
    if len(tokens) == 1:  # far faster than with an index for every value
        return tokens[0].index_select(0, order[0]).unsqueeze(0)
    return tokens.gather(1, order.unsqueeze(-1).expand_as(tokens))
