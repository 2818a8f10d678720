"""One Mamba-1 block (Gu and Dao, 2023) under the parameter names of mamba-ssm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad, silu, softplus

from xt_backend.model.reference.state import load_exactly, parameter, without_prefix

__all__ = ["MambaBlock", "mamba_block"]


class MambaBlock(nn.Module):
    """Gated selective state space over a sequence, from its first token to its last.

    Args:
        dim: Size of the tokens.
        inner: Channels of the state space.
        state: Size of the state of each channel.
        width: Taps of the causal convolution.
        rank: Size of the bottleneck before the step sizes.
    """

    def __init__(self, dim: int, inner: int, state: int, width: int, rank: int) -> None:
        super().__init__()
        self.sizes = (rank, state, state)
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, width, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, dim) to (B, L, dim)."""
        values, gate = self.in_proj(tokens).chunk(2, dim=-1)
        taps = self.conv1d.weight.shape[-1]
        values = silu(
            conv1d(
                pad(values.transpose(1, 2), (taps - 1, 0)),
                self.conv1d.weight,
                self.conv1d.bias,
                groups=values.shape[-1],
            )
        ).transpose(1, 2)
        steps, write, read = self.x_proj(values).split(self.sizes, dim=-1)
        mixed = self._scan(values, softplus(self.dt_proj(steps)), write, read)
        out: Tensor = self.out_proj((mixed + self.D * values) * silu(gate))
        return out

    def _scan(self, values: Tensor, steps: Tensor, write: Tensor, read: Tensor) -> Tensor:
        """Run the states token by token: h' = exp(step A) h + step value write; out = h' read."""
        decay = -self.A_log.float().exp()
        hidden = values.new_zeros(len(values), *self.A_log.shape)
        taken = steps * values
        outs = []
        for t in range(values.shape[1]):
            kept = (steps[:, t, :, None] * decay).exp() * hidden
            hidden = kept + taken[:, t, :, None] * write[:, t, None]
            outs.append((hidden @ read[:, t, :, None]).squeeze(-1))
        return torch.stack(outs, dim=1) if outs else values


def mamba_block(state_dict: Mapping[str, Tensor]) -> MambaBlock:
    """Build a Mamba-1 block of the sizes that its weights have.

    Args:
        state_dict: ``A_log``, ``D``, ``conv1d``, ``dt_proj``, ``in_proj``, ``out_proj`` and
            ``x_proj`` as mamba-ssm names them; a prefix that all share is ignored.

    Returns:
        In eval mode; forward (B, L, dim) to (B, L, dim).

    Raises:
        ModelError: Weights are missing, left over or of another shape.
    """
    state = without_prefix(state_dict)
    what = "Mamba block"
    inner, size = parameter(state, "A_log", what, 2).shape
    block = MambaBlock(
        dim=parameter(state, "out_proj.weight", what, 2).shape[0],
        inner=inner,
        state=size,
        width=parameter(state, "conv1d.weight", what, 3).shape[2],
        rank=parameter(state, "dt_proj.weight", what, 2).shape[1],
    )
    load_exactly(block, state, f"a {what}")
    return block.eval()
