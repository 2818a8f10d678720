"""What one step sees of a slide, drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .augment import View, shift, turn
from .batch import Batch
from .pixels import PixelField, Rows
from .spec import TrainSpec
from .truth import Truth

__all__ = ["Draw"]


@dataclass(frozen=True)
class Draw:
    """A slide or a crop of it.

    Attributes:
        field: The slide.
        rows: Places in the field's cells, ascending.
        rng: Draws what else is random about it.
        weight: What its labels count in the loss.
        pixel_weight: What its pixels count, where there is a decoder.
    """

    field: PixelField
    rows: Rows
    rng: np.random.Generator
    weight: float
    pixel_weight: float

    @classmethod
    def of(cls, field: PixelField, spec: TrainSpec, key: Sequence[int]) -> Draw:
        """Draw a view.

        Args:
            field: The slide.
            spec: The recipe.
            key: Tells this view from all others: every view has a generator of its own, so that
                it does not matter which process works on it.
        """
        rng = np.random.default_rng([spec.seed, *key])
        rows = field.crop(spec.field_side, rng)
        if spec.moves:
            zoom = spec.zoom ** rng.uniform(-1.0, 1.0)
            shift = tuple(rng.uniform(0.0, 1.0, 2) * spec.shift)
            moved = field.moved(rows, shift, zoom)
            # A crop at the very border may have no room.
            if len(moved.cells) and _seen(moved, np.arange(len(moved.cells)), spec).weights.any():
                field, rows = moved, np.arange(len(moved.cells))
        weight = float(_seen(field, rows, spec).weights.sum())
        pixels = 0.0 if field.targets is None else float(field.targets.weights[rows].sum())
        return cls(field, rows, rng, weight, pixels)

    def batch(self, rows: Rows, white: Tensor, way: int, spec: TrainSpec) -> Batch:
        """One field, blurred and blanked as in training on features, turned and shifted.

        Args:
            rows: (n,) those of `rows` that could be read.
            white: (n, k * k, width) their whitened tokens.
            way: How their pixels are turned, and with them the tokens inside a region.
            spec: The recipe.
        """
        rng = self.rng
        if spec.token_noise:
            noise = rng.standard_normal(tuple(white.shape), dtype=np.float32)
            white = white + spec.token_noise * torch.from_numpy(noise).to(white.device)
        if spec.token_dropout:
            kept = rng.random(len(white)) >= spec.token_dropout
            white = white * torch.from_numpy(kept).to(white)[:, None, None]
        truth = _seen(self.field, rows, spec)
        places_um = self.field.lattice.centres_um(self.field.cells[rows])
        empty = np.zeros((len(rows), 1, 0), np.float32)
        view = shift(turn(View(empty, places_um, truth.soft, truth.weights), way), rng)
        batch = Batch.of([view], white.device)
        return Batch(white[None], batch.positions_um, batch.padding, batch.soft, batch.weights)


def _seen(field: PixelField, rows: Rows, spec: TrainSpec) -> Truth:
    """The labels of some regions, or of their slide."""
    return field.truth if spec.task == "slide" else field.truth[rows]
