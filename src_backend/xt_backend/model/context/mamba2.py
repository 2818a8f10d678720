"""Mamba-2: a state-space model whose state is carried along the tokens; linear in their number."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from xt_backend.model.context.base import SequenceContext, check_option
from xt_backend.model.context.ssd import ssd
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM

__all__ = ["Mamba2Context"]


class Mamba2Context(SequenceContext):
    """Pre-norm Mamba-2 blocks in plain torch.

    Memory besides the tokens themselves is bounded by `segment`: the state and the last inputs of
    the convolution are carried from one segment to the next, with the same result.

    Args:
        state: Size of the state per channel.
        expand: Inner size over `dim`.
        head_dim: Channels that share one decay; None for the largest power of two up to 64 that
            divides the inner size.
        conv: Length of the causal convolution in tokens.
        chunk: Tokens computed at once inside a segment.
        segment: Tokens whose intermediate values are held at once.
        dropout: Share of values dropped in training.
    """

    kind = "mamba2"

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        state: int = 16,
        expand: int = 2,
        head_dim: int | None = None,
        conv: int = 4,
        chunk: int = 64,
        segment: int = 1024,
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
        for name, value, most in (
            ("state", state, 1024),
            ("expand", expand, 16),
            ("conv", conv, 64),
            ("chunk", chunk, 4096),
            ("segment", segment, 2**20),
        ):
            check_option(name, value, 1 <= value <= most, f"1 to {most}")
        check_option("dropout", dropout, 0 <= dropout < 1, "0 to below 1")
        inner = expand * dim
        if head_dim is None:
            head_dim = math.gcd(inner, 64)
        good = head_dim >= 1 and inner % head_dim == 0
        check_option("head_dim", head_dim, good, f"a divisor of the inner size {inner}")
        self.blocks = nn.ModuleList(
            Mamba2Block(
                dim,
                inner=inner,
                head_dim=head_dim,
                state=state,
                conv=conv,
                chunk=chunk,
                segment=segment,
                dropout=dropout,
            )
            for _ in range(layers)
        )


class Mamba2Block(nn.Module):
    """One block: norm, gated state-space mixer, residual. Reads forwards.

    Args:
        inner: Channels of the mixer, heads x `head_dim`.
    """

    def __init__(
        self,
        dim: int,
        *,
        inner: int,
        head_dim: int,
        state: int,
        conv: int,
        chunk: int,
        segment: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.inner, self.state, self.chunk, self.segment = inner, state, chunk, segment
        self.heads = inner // head_dim
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self.in_proj = nn.Linear(dim, 2 * inner + 2 * state + self.heads, bias=False)
        channels = inner + 2 * state
        bound = 1 / math.sqrt(conv)
        self.conv_weight = nn.Parameter(torch.empty(conv, channels).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.zeros(channels))
        # Steps between 1/1000 and 1/10, stored so that softplus gives them back.
        step = torch.empty(self.heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.decay_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.out_norm = nn.RMSNorm(inner, eps=1e-5)
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D); token t sees tokens 0 to t."""
        taps = tokens.new_zeros(len(tokens), len(self.conv_weight) - 1, self.conv_weight.shape[1])
        state = tokens.new_zeros(len(tokens), self.heads, self.inner // self.heads, self.state)
        parts = []
        for part in torch.split(tokens, self.segment, dim=1):
            mixed, taps, state = self._mix(part, taps, state)
            parts.append(part + self.dropout(mixed))
        return torch.cat(parts, dim=1)

    def _mix(self, tokens: Tensor, taps: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = tokens.shape
        sizes = [self.inner, self.inner + 2 * self.state, self.heads]
        gate, signal, step = torch.split(self.in_proj(self.norm(tokens)), sizes, dim=-1)
        signal = torch.cat([taps, signal], dim=1)
        taps = signal[:, length:]
        convolved = self.conv_bias + self.conv_weight[0] * signal[:, :length]
        for lag in range(1, len(self.conv_weight)):
            convolved = convolved + self.conv_weight[lag] * signal[:, lag : lag + length]
        inputs, write, read = torch.split(
            silu(convolved), [self.inner, self.state, self.state], dim=-1
        )
        inputs = inputs.view(batch, length, self.heads, -1)
        outputs, state = ssd(
            inputs,
            softplus(step + self.step_bias),
            -self.decay_log.exp(),
            write,
            read,
            state,
            self.chunk,
        )
        outputs = (outputs + inputs * self.skip.unsqueeze(-1)).reshape(batch, length, self.inner)
        mixed: Tensor = self.out_proj(self.out_norm(outputs * silu(gate)))
        return mixed, taps, state
