"""No context: every token stays as it is. The honest baseline."""

from __future__ import annotations

from torch import Tensor, nn

from xt_backend.model.context.base import ContextEncoder

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
        self.norm = nn.Identity()

    def mix(self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Nothing: no token sees another."""
        return tokens
