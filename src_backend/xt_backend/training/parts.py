"""Learning from parts of regions: what each place of the region encoder's map shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.errors import UsageError
from xt_backend.model import XT

from .appearance import turn_maps
from .losses import soft_cross_entropy
from .pixels import PixelField, Rows
from .spec import TrainSpec

__all__ = ["check_parts", "parts_loss", "pool_parts"]


def check_parts(spec: TrainSpec, tokens_per_region: int) -> None:
    """Refuse parts that do not make up the region or its tokens.

    Raises:
        UsageError: They do not.
    """
    if spec.parts and (spec.parts % tokens_per_region or spec.region_px % spec.parts):
        raise UsageError(
            f"Regions of {spec.region_px} px with {tokens_per_region} x {tokens_per_region} tokens "
            f"cannot be divided into {spec.parts} x {spec.parts} parts",
            "Give parts as a multiple of tokens_per_region that divides region_px",
        )


def pool_parts(tokens: Tensor, k: int) -> Tensor:
    """Tokens (n, g * g, D) of small parts to those of the k x k larger ones they make up."""
    n, count, dim = tokens.shape
    step = round(count**0.5) // k
    if step == 1:
        return tokens
    return tokens.reshape(n, k, step, k, step, dim).mean(dim=(2, 4)).reshape(n, k * k, dim)


def parts_loss(
    model: XT,
    field: PixelField,
    rows: Rows,
    white: Tensor,
    way: int,
    by_class: Tensor,
    smoothing: float,
) -> Tensor:
    """How wrong the region-only head is about each part of some regions.

    Args:
        model: Whose head it is.
        field: The slide, with labels.
        rows: (n,) places in the field's cells.
        white: (n, g * g, P) whitened tokens of the regions' parts, as the turned pixels show them.
        way: How the pixels are turned.
        by_class: (C,) weights of the classes.
        smoothing: As of `soft_cross_entropy`.
    """
    side = round(white.shape[1] ** 0.5)
    truth = field.parts(rows, side)

    def turned(values: npt.NDArray[np.float32]) -> Tensor:
        maps = values.reshape(len(rows), side, side, -1).transpose(0, 3, 1, 2)
        flat = turn_maps(maps, way).transpose(0, 2, 3, 1).reshape(len(truth), -1)
        return torch.from_numpy(np.ascontiguousarray(flat)).to(white)

    logits = model.region_only_head(white.flatten(0, 1)[:, None])
    weights = turned(truth.weights[:, None])[:, 0]
    return soft_cross_entropy(logits, turned(truth.soft), weights, by_class, smoothing)
