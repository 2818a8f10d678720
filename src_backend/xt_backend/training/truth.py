"""What is known about what a task predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xt_backend.engine.preparation import Prepared
from xt_backend.errors import AnnotationError
from xt_backend.model import LabelRule, ModelCard
from xt_backend.slides import Lattice, read_objects, read_shapes

from .annotations import AnnotatedSlide
from .labels import LabelledSlide
from .pixel_targets import HeatTargets, MaskTargets, PixelTargets
from .targets import Areas, Targets

__all__ = ["Known", "RegionLabels", "Source", "Truth", "read_truth", "true_labels"]

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


@dataclass(frozen=True)
class RegionLabels:
    """The annotated areas of a slide, from which regions of any lattice get their labels.

    Attributes:
        areas: By class.
        classes: Of the model.
        rule: How shares become labels.
        extent_px: x, y, width, height of the slide's bounds, level-0 px.
    """

    areas: Areas
    classes: tuple[str, ...]
    rule: LabelRule
    extent_px: tuple[int, int, int, int]

    def targets(self, lattice: Lattice, cells: npt.NDArray[np.int32]) -> Targets:
        """Shares of the classes in some regions of a lattice."""
        return self.areas.targets(lattice.boxes(cells), self.extent_px)

    def truth(self, targets: Targets) -> Truth:
        """Labels from shares."""
        weights = _weights(targets.annotated, self.rule)
        return Truth(targets.soft(), weights, true_labels(targets, self.classes, self.rule))


@dataclass(frozen=True)
class Known:
    """What is known about one slide.

    Attributes:
        truth: About the regions or the slide.
        pixels: What a decoder shall say; None but for dense and detection models.
        labels: Labels for regions elsewhere on the slide; None but for tasks on annotated areas.
    """

    truth: Truth
    pixels: PixelTargets | None = None
    labels: RegionLabels | None = None


def read_truth(source: Source, prepared: Prepared, card: ModelCard) -> Known:
    """What is known about the regions that were prepared, or about their slide.

    Args:
        source: Says what is known.
        prepared: The slide with its regions; takes a note for every outline that was repaired.
        card: Its task, classes and rule; annotations of other classes are ignored.

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
        eye = np.eye(len(classes), dtype=np.float32)
        return Known(Truth(eye[true], np.ones(1, np.float32), true))
    lattice, offset_px = prepared.lattice, prepared.slide.info.bounds_px[:2]
    if card.task == "detection":
        objects = read_objects(source.annotations, offset_px=offset_px)
        kinds = {name: index for index, name in enumerate(card.point_kinds)}
        try:
            heat = HeatTargets(
                lattice, prepared.cells, objects, kinds, card.detection.peak_radius_um
            )
        except AnnotationError as error:
            raise error.about(source.annotations.name) from error
        return Known(_truth_of_objects(heat, card.label_rule), heat)
    shapes = read_shapes(source.annotations, offset_px=offset_px)
    file = source.annotations.name
    prepared.notes += [f"{file}, {one.name}: {one.note}" for one in shapes if one.note]
    columns = {name: index for index, name in enumerate(classes)}
    extent_px = (*lattice.origin_px, *lattice.extent_px)
    labels = RegionLabels(Areas(shapes, columns), classes, card.label_rule, extent_px)
    targets = labels.targets(lattice, prepared.cells)
    masks = None
    if card.task == "dense":
        masks = MaskTargets(lattice, shapes, columns, targets.annotated)
    return Known(labels.truth(targets), masks, labels)


def _truth_of_objects(heat: HeatTargets, rule: LabelRule) -> Truth:
    """A region is what most of the objects in it are, or "none", the first class."""
    nothing = (heat.counts.sum(axis=1, keepdims=True) == 0).astype(np.float32)
    counts = np.concatenate([nothing, heat.counts], axis=1)
    soft = counts / counts.sum(axis=1, keepdims=True)
    return Truth(soft, _weights(heat.shares, rule), counts.argmax(axis=1).astype(np.int64))


def _weights(known: npt.NDArray[np.float32], rule: LabelRule) -> npt.NDArray[np.float32]:
    """What regions count of which a share is known: nothing where it is too little."""
    enough = (known >= rule.min_annotated_fraction) & (known > 0)
    return np.where(enough, known, np.float32(0.0))


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
