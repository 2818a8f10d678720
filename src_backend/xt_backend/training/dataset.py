"""Slides as fields of features with what is known about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.config import CommonOptions
from xt_backend.engine.collection import collect, features_shape
from xt_backend.engine.encoder import BatchEncoder
from xt_backend.engine.preparation import prepare
from xt_backend.model import ModelCard
from xt_backend.wording import counted

from .pixels import PixelField
from .truth import Source, Truth, read_truth

__all__ = ["SlideField", "load_field"]


@dataclass(frozen=True)
class SlideField:
    """The regions of one slide with their features and the truth.

    Attributes:
        name: The slide's file name.
        features: (N, k*k, D) float16; zeros where the region could not be read.
        positions_um: (N, 2) float64 centres of the regions.
        boxes: (N, 4) int64 level-0 px, x0, y0, x1, y1.
        scored: (N,) bool, False where the region could not be read.
        truth: About the N regions, or about the slide.
        pitch_um: Step of the lattice.
        pixels: The same regions in their file.
        notes: What the user should know.
    """

    name: str
    features: npt.NDArray[np.float16]
    positions_um: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.int64]
    scored: npt.NDArray[np.bool_]
    truth: Truth
    pitch_um: float
    pixels: PixelField
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.positions_um)


def load_field(
    source: Source,
    card: ModelCard,
    encoder: BatchEncoder,
    options: CommonOptions,
    on_regions: Callable[[int, int], None] = lambda done, total: None,
) -> SlideField:
    """Read, encode (or take from the region store) and label the regions of one slide.

    Args:
        source: A slide and what is known about it.
        card: Says which pixels a region is, how its stain is normalised and what the classes are.
        encoder: Runs the region encoder.
        options: How slides are read, and where features are kept.
        on_regions: Told how many regions of how many have features.

    Raises:
        SlideError: The slide cannot be used.
        AnnotationError: Its annotations cannot be used.
    """
    prepared = prepare(source.path, card.mpp(), card.scored_px, options, card.stain)
    with prepared.slide:
        lattice, cells = prepared.lattice, prepared.cells
        known = read_truth(source, prepared, card)
        pixels = PixelField.of(source, prepared, known)
        notes = list(prepared.notes)
        features = np.zeros(features_shape(prepared, encoder), np.float16)
        found = collect(prepared, encoder, options, features, on_regions)
        notes += found.problems
    n_failed = int((~found.scored).sum())
    if n_failed:
        notes.append(f"{n_failed:,} of {counted(len(cells), 'region')} could not be read")
    return SlideField(
        name=source.name,
        features=features,
        positions_um=lattice.centres_um(cells),
        boxes=lattice.boxes(cells),
        scored=found.scored,
        truth=known.truth,
        pitch_um=lattice.stride_px * lattice.model_mpp,
        pixels=pixels,
        notes=tuple(notes),
    )
