"""One Mamba-1 block (Gu and Dao, 2023) under the parameter names of mamba-ssm."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from xt_backend.model.context.mamba import MambaMixer
from xt_backend.model.reference.state import load_exactly, parameter, without_prefix

__all__ = ["MambaBlock", "mamba_block"]


class MambaBlock(MambaMixer):
    """`MambaMixer` over a whole sequence, from its first token to its last."""

    # A whole sequence has no state before or after it.
    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """(B, L, dim) to (B, L, dim)."""
        mixed, _, _ = super().forward(tokens)
        return mixed


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
        parameter(state, "out_proj.weight", what, 2).shape[0],
        inner=inner,
        state=size,
        conv=parameter(state, "conv1d.weight", what, 3).shape[2],
        step_rank=parameter(state, "dt_proj.weight", what, 2).shape[1],
    )
    load_exactly(block, state, f"a {what}")
    return block.eval()
