"""What is known about what a task predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xt_backend.engine.preparation import Prepared
from xt_backend.errors import AnnotationError
from xt_backend.model import LabelRule, ModelCard
from xt_backend.slides import read_shapes

from .annotations import AnnotatedSlide
from .labels import LabelledSlide
from .targets import Targets, area_fractions

__all__ = ["Source", "Truth", "read_truth", "true_labels"]

Source: TypeAlias = AnnotatedSlide | LabelledSlide
"""A slide with what somebody said about it."""


@dataclass(frozen=True)
class Truth:
    """Labels of the T things that a task predicts: the regions of a slide, or the one slide.

    Attributes:
        soft: (T, C) float32 class shares, rows sum to 1, or to 0 where nothing is annotated.
        weights: (T,) float32, what each counts in the loss; 0 where it is not annotated enough.
        true: (T,) int64 labels; only those with a weight mean something.
    """

    soft: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    true: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.true)

    def __getitem__(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Truth:
        return Truth(self.soft[rows], self.weights[rows], self.true[rows])

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """(T,) which have a label."""
        return np.asarray(self.weights > 0)


def read_truth(source: Source, prepared: Prepared, card: ModelCard) -> Truth:
    """The truth about the regions that were prepared, or about their slide.

    Args:
        source: Says what is known.
        prepared: The slide with its regions.
        card: Its classes and its rule; annotations of other classes are ignored.

    Raises:
        AnnotationError: The annotations cannot be used, or the label is no class of the model.
    """
    classes = card.class_names
    if isinstance(source, LabelledSlide):
        if source.label not in classes:
            raise AnnotationError(
                f"{source.name} has the label {source.label}, which {card.name} does not know",
                f"It knows: {', '.join(classes)}",
            )
        true = np.array([classes.index(source.label)])
        return Truth(np.eye(len(classes), dtype=np.float32)[true], np.ones(1, np.float32), true)
    lattice = prepared.lattice
    targets = area_fractions(
        lattice.boxes(prepared.cells),
        read_shapes(source.annotations, offset_px=prepared.slide.info.bounds_px[:2]),
        {name: index for index, name in enumerate(classes)},
        (*lattice.origin_px, *lattice.extent_px),
    )
    rule = card.label_rule
    enough = (targets.annotated >= rule.min_annotated_fraction) & (targets.annotated > 0)
    return Truth(
        targets.soft(),
        np.where(enough, targets.annotated, np.float32(0.0)),
        true_labels(targets, classes, rule),
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
