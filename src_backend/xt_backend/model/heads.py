"""From tokens to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RegionHead", "RegionOnlyHead", "SlideHead"]


class RegionHead(nn.Module):
    """Class logits of each region from its tokens after context.

    Args:
        dim: Size of the tokens.
        n_classes: Size of the logits.
        hidden: Size of the hidden layer.
    """

    def __init__(self, dim: int, n_classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.norm: nn.Module = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, k * k, dim) to logits (B, N, C); a region's tokens are averaged."""
        hidden = nn.functional.gelu(self.up(self.norm(tokens.mean(dim=-2))))
        logits: Tensor = self.out(hidden)
        return logits


class RegionOnlyHead(RegionHead):
    """Class logits of each region from its whitened tokens alone: what it shows by itself.

    As large as `RegionHead`, so that the comparison with context is fair. The tokens are white
    already; their length carries meaning and is not normalised away.
    """

    def __init__(self, dim: int, n_classes: int, hidden: int = 64) -> None:
        super().__init__(dim, n_classes, hidden)
        self.norm = nn.Identity()


class SlideHead(nn.Module):
    """Class logits of a slide from the tokens of its regions.

    Args:
        dim: Size of the tokens.
        n_classes: Size of the logits.
        kind: ``class-token``: a learnt token runs through the context encoder at the end of the
            field and is classified. ``attention-mil``: the regions' mean tokens are weighed by
            gated attention (Ilse et al., ICML 2018), the weighted mean is classified.
        hidden: Size of the attention's hidden layer.
    """

    def __init__(self, dim: int, n_classes: int, kind: str, hidden: int = 64) -> None:
        super().__init__()
        self.kind = kind
        if kind == "class-token":
            self.class_token = nn.Parameter(torch.randn(dim) * 0.02)
        else:
            self.value = nn.Linear(dim, hidden)
            self.gate = nn.Linear(dim, hidden)
            self.weight = nn.Linear(hidden, 1)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, n_classes)

    @property
    def has_class_token(self) -> bool:
        """Whether a class token has to run through the context encoder."""
        return self.kind == "class-token"

    def append_class_token(
        self, tokens: Tensor, positions_um: Tensor, padding_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put the class token behind the tokens, just past the lower right end of the field.

        There every reading order meets it last (see `SequenceContext`), without a special case.

        Args:
            tokens: (B, L, dim).
            positions_um: (B, L, 2).
            padding_mask: (B, L) bool or None.

        Returns:
            The three with length L + 1.
        """
        batch = len(tokens)
        token = self.class_token.to(tokens.dtype).expand(batch, 1, -1)
        if positions_um.shape[1] == 0:
            end = positions_um.new_zeros(batch, 1, 2)
        else:
            valid = positions_um
            if padding_mask is not None:
                lowest = positions_um.amin(dim=1, keepdim=True)
                valid = torch.where(padding_mask.unsqueeze(-1), lowest, positions_um)
            end = valid.amax(dim=1, keepdim=True) + 1.0
        if padding_mask is not None:
            padding_mask = nn.functional.pad(padding_mask, (0, 1), value=False)
        return (
            torch.cat([tokens, token], dim=1),
            torch.cat([positions_um, end], dim=1),
            padding_mask,
        )

    def classify(self, token: Tensor) -> Tensor:
        """(..., dim) to logits (..., C)."""
        logits: Tensor = self.out(self.norm(token))
        return logits

    def pool(self, regions: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Gated attention over regions: (B, N, dim) to (B, dim).

        Args:
            regions: (B, N, dim).
            padding_mask: (B, N) bool or None.
        """
        gated = torch.tanh(self.value(regions)) * torch.sigmoid(self.gate(regions))
        scores = self.weight(gated).squeeze(-1)
        if padding_mask is not None:
            scores = scores.masked_fill(padding_mask, torch.finfo(scores.dtype).min)
        pooled: Tensor = (scores.softmax(dim=1).unsqueeze(1) @ regions).squeeze(1)
        return pooled
