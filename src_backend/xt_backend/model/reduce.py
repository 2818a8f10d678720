"""The bottleneck between region features and context tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xt_backend.errors import ModelError

__all__ = ["Reduce", "in_blocks"]

_ROWS_AT_ONCE = 8192
_BLOCK_ROWS = 64
# Relative to the largest variance; keeps noise directions from being blown up without limit.
_VARIANCE_FLOOR = 1e-6


def in_blocks(
    function: Callable[[Tensor], Tensor], rows: Tensor, size: int = _BLOCK_ROWS
) -> Tensor:
    """Apply a function of independent rows block by block, each padded to the same length.

    Products of matrices round differently when there are other rows beside; this way they do not.

    Args:
        function: From (n, ...) to (n, ...), row by row.
        rows: (N, ...); N may be 0.
        size: Rows in a block.

    Returns:
        (N, ...).
    """
    parts = [*torch.split(rows, size)] if len(rows) else [rows]
    missing = size - len(parts[-1])
    parts[-1] = torch.cat([parts[-1], rows.new_zeros(missing, *rows.shape[1:])])
    return torch.cat([function(part) for part in parts])[: len(rows)]


class Reduce(nn.Module):
    """Whitens features to a few principal components, and projects those to the context size.

    Few training slides are told apart by heart when the context encoder sees all features; a
    handful of whitened components is enough for it and keeps it honest.

    Args:
        features_dim: Size D of the features.
        components: Size p of the whitened tokens; 0 normalises each token over D instead, and
            nothing is fitted.
        dim: Size of the context tokens.

    Attributes:
        mean: (D,) subtracted from the features.
        components: (D, p) principal directions over their standard deviations. Until
            `fit_whitening` a fixed random projection.
        width: Size of the whitened tokens: p, or D where p is 0.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, features_dim: int, components: int, dim: int) -> None:
        super().__init__()
        if components > features_dim:
            raise ModelError(
                f"{components} components cannot be taken from {features_dim} features",
                f"ask for at most {features_dim}",
            )
        self.features_dim = features_dim
        self.whitens = components > 0
        self.width = components or features_dim
        if self.whitens:
            directions, _ = torch.linalg.qr(torch.randn(features_dim, components))
            self.register_buffer("mean", torch.zeros(features_dim))
            self.register_buffer("components", directions.contiguous())
        self.project = nn.Linear(self.width, dim)

    def whiten(self, features: Tensor) -> Tensor:
        """(..., D) float to (..., width)."""
        if self.whitens:
            return (features - self.mean) @ self.components
        return nn.functional.layer_norm(features, (self.features_dim,))

    def forward(self, features: Tensor) -> Tensor:
        """Whiten a field or a part of it: (N, k * k, D) to (N, k * k, width).

        A region's tokens have the same bits in whatever company they come: matrix products are
        made in one padded shape only. For inference; training whitens with `whiten`.
        """
        return in_blocks(self.whiten, features)

    @torch.no_grad()
    def fit_whitening(self, features: Tensor) -> None:
        """Fit mean and components on training features; a no-op where nothing is whitened.

        Afterwards the whitened training features have mean 0 and covariance 1. Computed in
        float64, with a fixed sign of each component, so that it is repeatable.

        Args:
            features: (..., D), e.g. (N, k * k, D) float16 as stored.

        Raises:
            ModelError: Too few tokens or non-finite features.
        """
        if not self.whitens:
            return
        rows = features.reshape(-1, self.features_dim)
        wanted = self.width + 1
        if len(rows) < wanted:
            raise ModelError(
                f"{len(rows)} tokens are too few to fit {self.width} components",
                f"give at least {wanted}, or use fewer components",
            )
        total = torch.zeros(self.features_dim, dtype=torch.float64)
        for part in torch.split(rows, _ROWS_AT_ONCE):
            total += part.to("cpu", torch.float64).sum(dim=0)
        mean = total / len(rows)
        if not bool(mean.isfinite().all()):
            raise ModelError(
                "The training features hold NaN or infinite values",
                "leave out the regions that could not be read, or use precision fp32",
            )
        covariance = torch.zeros(self.features_dim, self.features_dim, dtype=torch.float64)
        for part in torch.split(rows, _ROWS_AT_ONCE):
            centred = part.to("cpu", torch.float64) - mean
            covariance += centred.T @ centred
        covariance /= len(rows) - 1
        variances, directions = torch.linalg.eigh(covariance)
        variances = variances.flip(0)[: self.width]
        directions = directions.flip(1)[:, : self.width]
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        directions = directions * largest.sign()
        floor = (variances[0] * _VARIANCE_FLOOR).clamp_min(1e-30)
        self.mean.copy_(mean)
        self.components.copy_(directions / variances.clamp_min(floor).sqrt())
