"""Annotated slides as fields of tokens with soft labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.config import CommonOptions
from xt_backend.engine.collection import collect
from xt_backend.engine.encoder import BatchEncoder
from xt_backend.engine.preparation import prepare
from xt_backend.model import LabelRule, ModelCard
from xt_backend.slides import read_shapes

from .annotations import AnnotatedSlide
from .targets import Targets, area_fractions

__all__ = ["SlideField", "load_field", "true_labels"]


@dataclass(frozen=True)
class SlideField:
    """The regions of one slide with their features and what the annotations say.

    Attributes:
        name: The slide's file name.
        features: (N, k*k, D) float16; zeros where the region could not be read.
        positions_um: (N, 2) float64 centres of the regions.
        scored: (N,) bool, False where the region could not be read.
        targets: Class fractions of the N regions.
        pitch_um: Step of the lattice.
        notes: What the user should know.
    """

    name: str
    features: npt.NDArray[np.float16]
    positions_um: npt.NDArray[np.float64]
    scored: npt.NDArray[np.bool_]
    targets: Targets
    pitch_um: float
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.positions_um)

    def annotated(self, rule: LabelRule) -> npt.NDArray[np.bool_]:
        """(N,) which regions are annotated enough to learn from or to be judged by."""
        enough = self.targets.annotated >= rule.min_annotated_fraction
        return np.asarray(enough & (self.targets.annotated > 0))


def load_field(
    slide: AnnotatedSlide,
    card: ModelCard,
    encoder: BatchEncoder,
    options: CommonOptions,
    on_regions: Callable[[int, int], None] = lambda done, total: None,
) -> SlideField:
    """Read, encode (or take from the region store) and label the regions of one slide.

    Args:
        slide: A slide and its annotations.
        card: Says which pixels a region is and what the classes are; annotations of other classes
            are ignored.
        encoder: Runs the region encoder.
        options: How slides are read, and where features are kept.
        on_regions: Told how many regions of how many have features.

    Raises:
        SlideError: The slide cannot be used.
        AnnotationError: Its annotations cannot be used.
    """
    prepared = prepare(slide.path, card.model_mpp, card.region_px, options)
    with prepared.slide:
        lattice, cells = prepared.lattice, prepared.cells
        shapes = read_shapes(slide.annotations, offset_px=prepared.slide.info.bounds_px[:2])
        columns = {name: index for index, name in enumerate(card.class_names)}
        targets = area_fractions(
            lattice.boxes(cells), shapes, columns, (*lattice.origin_px, *lattice.extent_px)
        )
        notes = list(prepared.notes)
        found = collect(prepared, encoder, options, on_regions)
        notes += found.problems
    n_failed = int((~found.scored).sum())
    if n_failed:
        notes.append(f"{n_failed} of {len(cells)} regions could not be read")
    return SlideField(
        name=slide.name,
        features=found.features,
        positions_um=lattice.centres_um(cells),
        scored=found.scored,
        targets=targets,
        pitch_um=lattice.stride_px * lattice.model_mpp,
        notes=tuple(notes),
    )


def true_labels(
    targets: Targets, classes: tuple[str, ...], rule: LabelRule
) -> npt.NDArray[np.int64]:
    """(N,) the true class of every region.

    The class of the largest fraction (the first of equals), or the class named in
    `rule.min_fraction` when it covers at least that share of the region; of several such classes
    the one furthest above its share.
    """
    labels: npt.NDArray[np.int64] = targets.fractions.argmax(axis=1).astype(np.int64)
    if not rule.min_fraction:
        return labels
    needed = np.array([rule.min_fraction.get(name, np.inf) for name in classes], np.float32)
    above = targets.fractions - needed
    passed = (above >= 0).any(axis=1)
    labels[passed] = above[passed].argmax(axis=1)
    return labels
