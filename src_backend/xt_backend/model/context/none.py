"""No context: every token stays as it is. The honest baseline."""

from __future__ import annotations

from torch import Tensor

from xt_backend.model.context.base import ContextEncoder, check_field

__all__ = ["NoContext"]


class NoContext(ContextEncoder):
    """Returns the tokens unchanged, zeros at padding places; has no parameters.

    Args:
        dim: Size of the tokens.
        layers: Ignored, so that the kind alone can be exchanged.
    """

    kind = "none"
    reach_tokens = 0

    def __init__(self, dim: int, layers: int = 0) -> None:
        super().__init__(dim, max(layers, 1), positions="none")
        del self.norm

    def forward(
        self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None = None
    ) -> Tensor:
        """See `ContextEncoder.forward`."""
        check_field(tokens, positions_um, padding_mask, self.dim)
        if padding_mask is None:
            return tokens
        return tokens.masked_fill(padding_mask.unsqueeze(-1), 0.0)
