"""Mamba: a selective state-space model with a state per channel; linear in the tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu, softplus

from xt_backend.model.context.base import SequenceContext, check_option
from xt_backend.model.context.kernels import scan_kernel
from xt_backend.model.context.selective_scan import selective_scan
from xt_backend.model.positions import DEFAULT_WAVELENGTHS_UM

__all__ = ["MambaContext", "MambaMixer"]


class MambaContext(SequenceContext):
    """Pre-norm Mamba blocks in plain torch.

    Memory besides the tokens themselves is bounded by `segment`: the state and the last inputs of
    the convolution are carried from one segment to the next, with the same result. On CUDA the
    kernel of mamba-ssm runs the recurrence where that package is installed.

    Args:
        state: States per channel.
        expand: Inner size over `dim`.
        conv: Length of the causal convolution in tokens.
        step_rank: Rank of the map that gives each channel its step; None for dim / 16, rounded up.
        segment: Tokens whose intermediate values are held at once.
        dropout: Share of values dropped in training.
    """

    kind = "mamba"

    def __init__(
        self,
        dim: int,
        layers: int,
        *,
        state: int = 16,
        expand: int = 2,
        conv: int = 4,
        step_rank: int | None = None,
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
            ("segment", segment, 2**20),
        ):
            check_option(name, value, 1 <= value <= most, f"1 to {most}")
        check_option("dropout", dropout, 0 <= dropout < 1, "0 to below 1")
        rank = -(-dim // 16) if step_rank is None else step_rank
        check_option("step_rank", rank, 1 <= rank <= 8192, "1 to 8192")
        self.blocks = nn.ModuleList(
            MambaBlock(
                MambaMixer(dim, state=state, inner=expand * dim, conv=conv, step_rank=rank),
                dim,
                segment=segment,
                dropout=dropout,
            )
            for _ in range(layers)
        )


class MambaBlock(nn.Module):
    """One block: norm, mixer, residual. Reads forwards."""

    def __init__(self, mixer: MambaMixer, dim: int, *, segment: int, dropout: float) -> None:
        super().__init__()
        self.segment = segment
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D); token t sees tokens 0 to t."""
        if scan_kernel(tokens) is not None:  # it knows no state to begin with
            mixed, _, _ = self.mixer(self.norm(tokens))
            whole: Tensor = tokens + self.dropout(mixed)
            return whole
        taps = state = None
        parts = []
        for part in torch.split(tokens, self.segment, dim=1):
            mixed, taps, state = self.mixer(self.norm(part), taps, state)
            parts.append(part + self.dropout(mixed))
        return torch.cat(parts, dim=1)


class MambaMixer(nn.Module):
    """The gated convolution and recurrence, with the parameter names of mamba-ssm 2.3.

    Args:
        dim: Size of the tokens.
        state: States per channel.
        inner: Number of channels.
        conv: Length of the causal convolution.
        step_rank: Rank of the map that gives each channel its step.
    """

    def __init__(self, dim: int, *, state: int, inner: int, conv: int, step_rank: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv, groups=inner, padding=conv - 1)
        self.x_proj = nn.Linear(inner, step_rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(step_rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(step_rank**-0.5), step_rank**-0.5)
        # Steps between 1/1000 and 1/10, stored so that softplus gives them back.
        step = torch.empty(inner).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(
        self, tokens: Tensor, taps: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mix the tokens of one segment.

        Args:
            tokens: (B, L, dim).
            taps: (B, conv - 1, inner) last inputs of the convolution; None for zeros.
            state: (B, state, inner) before the segment; None for zeros.

        Returns:
            (B, L, dim), and the taps and the state after the segment.
        """
        length = tokens.shape[1]
        signal, gate = self.in_proj(tokens).chunk(2, dim=-1)
        weight = self.conv1d.weight[:, 0].T  # (conv, inner)
        if taps is None:
            taps = signal.new_zeros(len(signal), len(weight) - 1, signal.shape[-1])
        signal = torch.cat([taps, signal], dim=1)
        taps = signal[:, length:]
        convolved = cast("Tensor", self.conv1d.bias)
        for lag in range(len(weight)):
            convolved = torch.addcmul(convolved, weight[lag], signal[:, lag : lag + length])
        inputs = silu(convolved)
        n_states = self.A_log.shape[1]
        step_rank = self.dt_proj.in_features
        low, write, read = self.x_proj(inputs).split([step_rank, n_states, n_states], dim=-1)
        steps = softplus(linear(low, self.dt_proj.weight) + self.dt_proj.bias)
        decay = -self.A_log.exp()
        kernel = scan_kernel(tokens) if state is None else None
        scan = kernel or selective_scan
        outputs, state = scan(inputs, steps, decay.T, write, read, state)
        outputs = torch.addcmul(outputs, inputs, self.D) * silu(gate)
        mixed: Tensor = self.out_proj(outputs)
        return mixed, taps, state
