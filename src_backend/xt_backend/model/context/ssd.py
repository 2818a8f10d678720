"""The state-space recurrence of Mamba-2, computed in chunks of matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["ssd"]


def ssd(
    inputs: Tensor,
    steps: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    state: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Run h[t] = exp(steps[t] * decay) h[t-1] + steps[t] * inputs[t] write[t]^T, y = h read.

    Inside a chunk all pairs of tokens are computed at once, between chunks only the state is
    passed on: the same numbers as step by step, with a cost linear in L.

    Args:
        inputs: (B, L, H, P).
        steps: (B, L, H), not negative.
        decay: (H,), negative.
        write: (B, L, S).
        read: (B, L, S).
        state: (B, H, P, S) before the first token.
        chunk: Tokens per chunk, Q below.

    Returns:
        Outputs (B, L, H, P) and the state (B, H, P, S) after the last token.
    """
    batch, length, heads, width = inputs.shape
    chunk = min(chunk, length)
    missing = -length % chunk
    # Steps of zero leave the state as it is.
    inputs = pad(inputs, (0, 0, 0, 0, 0, missing)).view(batch, -1, chunk, heads, width)
    steps = pad(steps, (0, 0, 0, missing)).view(batch, -1, chunk, heads)
    write = pad(write, (0, 0, 0, missing)).view(batch, -1, chunk, write.shape[-1])
    read = pad(read, (0, 0, 0, missing)).view(batch, -1, chunk, read.shape[-1])

    elapsed = (steps * decay).cumsum(dim=2).transpose(2, 3)  # (B, C, H, Q)
    weighted = inputs * steps.unsqueeze(-1)
    values = weighted.transpose(2, 3)  # (B, C, H, Q, P)

    future = torch.ones(chunk, chunk, dtype=torch.bool, device=inputs.device).triu(1)
    between = elapsed.unsqueeze(-1) - elapsed.unsqueeze(-2)
    between = between.masked_fill(future, float("-inf")).exp()  # (B, C, H, Q, Q)
    pairs = (read @ write.transpose(2, 3)).unsqueeze(2) * between
    outputs = pairs @ values

    to_end = (elapsed[..., -1:] - elapsed).exp().unsqueeze(-1)
    added = (values * to_end).transpose(3, 4) @ write.unsqueeze(2)  # (B, C, H, P, S)
    kept = elapsed[..., -1].exp()[..., None, None]  # (B, C, H, 1, 1)
    before = []
    for index in range(added.shape[1]):
        before.append(state)
        state = state * kept[:, index] + added[:, index]
    carried = read.unsqueeze(2) @ torch.stack(before, dim=1).transpose(3, 4)
    outputs = outputs + carried * elapsed.exp().unsqueeze(-1)
    outputs = outputs.transpose(2, 3).reshape(batch, -1, heads, width)
    return outputs[:, :length], state
