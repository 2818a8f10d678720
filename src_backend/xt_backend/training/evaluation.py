"""How good a model is on annotated slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.engine import BatchDecoder, BatchEncoder, choose_device
from xt_backend.errors import AnnotationError, EngineError, SlideError, UsageError
from xt_backend.model import XT, ModelCard, ReferenceXT, find_model, load_model
from xt_backend.store.labels import probabilities_of, winners

from .annotations import AnnotatedSlide, annotated_classes, pair_slides
from .dataset import SlideField, load_field
from .events import Progress, ProgressCallback, ignore
from .labels import LabelledSlide, LabelTable, label_slides
from .metrics import FAILED, Metrics, measure
from .pixel_judging import PixelJudged, judge_pixels, measure_pixels
from .pixel_metrics import PixelMetrics
from .spec import EvaluateSpec
from .truth import Source

__all__ = ["EvaluationReport", "Judged", "evaluate", "judge", "measure_heads"]


@dataclass(frozen=True)
class EvaluationReport:
    """The outcome of `evaluate`.

    Attributes:
        model: Name of the model.
        slides: By slide: regions that were judged, and failed regions among them.
        failed: By slide: why it could not be judged at all.
        context: The model's prediction.
        region_only: The same from each region alone; None unless asked for.
        pixels: The masks or points of dense and detection models; None for others.
        region_only_pixels: The same without context; None unless asked for.
        notes: What the user should know.
    """

    model: str
    slides: dict[str, dict[str, int]]
    failed: dict[str, str]
    context: Metrics
    region_only: Metrics | None
    pixels: PixelMetrics | None
    region_only_pixels: PixelMetrics | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; no paths."""
        return {
            "model": self.model,
            "slides": self.slides,
            "failed": self.failed,
            "context": self.context.to_dict(),
            "region_only": self.region_only.to_dict() if self.region_only else None,
            "pixels": self.pixels.to_dict() if self.pixels else None,
            "region_only_pixels": (
                self.region_only_pixels.to_dict() if self.region_only_pixels else None
            ),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Judged:
    """The annotated regions of one slide, or the slide itself, with both heads' logits.

    Attributes:
        true: (n,) labels.
        soft: (n, C) float32 class shares, rows sum to 1.
        logits: (n, C) float32, NaN where the region failed.
        region_only_logits: (n, C) float32, the same.
    """

    true: npt.NDArray[np.int64]
    soft: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    region_only_logits: npt.NDArray[np.float32]


def evaluate(spec: EvaluateSpec, progress: ProgressCallback = ignore) -> EvaluationReport:
    """Compare a model's predictions with annotations, or with labels of slides.

    Judged are the regions of tissue that are annotated enough (the model's label rule), or whole
    slides; those that could not be read count as wrong. Slides whose regions cannot be judged are
    listed, never dropped.

    Raises:
        InputNotFoundError: A folder or the model file does not exist.
        ModelError: The model cannot be used.
        UsageError: Labels for a model that predicts regions, or none for one that predicts slides.
        AnnotationError: Annotations or labels are missing, or hold classes that the model does not
            know.
        SlideError: Not one slide could be judged.
    """
    device = choose_device(spec.device, spec.precision)
    model = load_model(find_model(spec.model))
    card = model.card
    slides, notes = _sources(spec, card)
    encoder = BatchEncoder(model.region_encoder, device)
    model.to(device.name)
    judged: dict[str, Judged] = {}
    failed: dict[str, str] = {}
    missed: list[Judged] = []
    decoder = BatchDecoder(model, device) if card.has_dense_head else None
    by_pixel: tuple[list[PixelJudged], list[PixelJudged]] = ([], [])
    first_error: SlideError | EngineError | None = None
    for index, slide in enumerate(slides):
        progress(Progress("evaluate", index, len(slides), slide.name))
        try:
            field = load_field(slide, card, encoder, spec)
        except (SlideError, EngineError) as error:
            first_error = first_error or error
            failed[slide.name] = str(error)
            if isinstance(slide, LabelledSlide):
                missed.append(_missed(slide, card))
            continue
        notes += [f"{slide.name}: {note}" for note in field.notes]
        judged[slide.name] = judge(model, field)
        for on, found in zip((True, False), by_pixel, strict=True):
            if decoder is not None and (on or spec.compare_context):
                more = judge_pixels(
                    model, decoder, field, spec, context=on, distance_um=spec.distance_um
                )
                found.append(more)
        if not len(judged[slide.name].true):
            notes.append(f"{slide.name}: no region is annotated enough to be judged")
    if first_error is not None and not judged:
        raise first_error
    progress(Progress("evaluate", len(slides), len(slides), "bootstrap"))
    measured = [
        measure_pixels(
            found,
            card,
            distance_um=spec.distance_um,
            n_bootstrap=spec.bootstrap,
            seed=spec.seed,
        )
        for found in (by_pixel if spec.compare_context else by_pixel[:1])
        if card.has_dense_head
    ]
    context, region_only = measure_heads(
        [*judged.values(), *missed], card, n_bootstrap=spec.bootstrap, seed=spec.seed
    )
    return EvaluationReport(
        model=card.name,
        slides={
            name: {"regions": len(one.true), "failed": int(np.isnan(one.logits).any(axis=1).sum())}
            for name, one in judged.items()
        },
        failed=failed,
        context=context,
        region_only=region_only if spec.compare_context else None,
        pixels=measured[0] if measured else None,
        region_only_pixels=measured[1] if len(measured) > 1 else None,
        notes=tuple(notes),
    )


def _sources(spec: EvaluateSpec, card: ModelCard) -> tuple[Sequence[Source], list[str]]:
    """The slides to be judged with what is known about them, and notes."""
    if card.task != "slide":
        if spec.labels is not None:
            raise UsageError(
                f"{card.name} predicts regions, and --labels has one label a slide",
                "Give --annotations, or a model of task slide",
            )
        pairs = pair_slides(spec.slides, [spec.annotations or spec.slides])
        return pairs, check_known_classes(pairs, card)
    if spec.labels is None:
        raise UsageError(
            f"{card.name} predicts one label a slide",
            "Give them with --labels, a CSV file with the columns slide and label",
        )
    table = LabelTable.read(spec.labels)
    found, notes = label_slides(table, [spec.slides], strict=False)
    unknown = [one for one in found[0] if one.label not in card.class_names]
    if unknown:
        raise AnnotationError(
            f"{table.name} holds labels that {card.name} does not know: "
            + ", ".join(f"{one.label} (of {one.name})" for one in unknown),
            f"It knows: {', '.join(card.class_names)}",
        )
    absent = sorted(set(card.class_names) - {one.label for one in found[0]})
    notes += [f"no slide is of class {', '.join(absent)}"] if absent else []
    return found[0], notes


def _missed(slide: LabelledSlide, card: ModelCard) -> Judged:
    """A slide without any prediction: it counts as wrong."""
    n_classes = len(card.classes)
    true = np.array([card.class_names.index(slide.label)])
    nothing = np.full((1, n_classes), np.nan, np.float32)
    return Judged(true, np.eye(n_classes, dtype=np.float32)[true], nothing, nothing)


def judge(model: XT | ReferenceXT, field: SlideField) -> Judged:
    """Predict a whole field and keep what has a true label; other regions are context only."""
    card = model.card
    by_slide = card.task == "slide"
    scored = field.scored
    rows = np.ones(1, bool) if by_slide else scored
    logits = np.full((len(field.truth), len(card.classes)), np.nan, np.float32)
    region_only = logits.copy()
    if scored.any():
        device = next(model.parameters()).device
        features = torch.from_numpy(field.features[scored]).to(device, torch.float32)
        positions_um = torch.from_numpy(field.positions_um[scored])
        with torch.inference_mode():
            prediction = model.predict(features, positions_um)
        both = (prediction.slide_logits, prediction.region_only_slide_logits)
        if not by_slide:
            both = (prediction.logits, prediction.region_only_logits)
        for target, found in zip((logits, region_only), both, strict=True):
            if found is not None:
                target[rows] = found.float().cpu().numpy()
    known = field.truth.known
    return Judged(
        true=field.truth.true[known],
        soft=field.truth.soft[known],
        logits=logits[known],
        region_only_logits=region_only[known],
    )


def measure_heads(
    judged: list[Judged], card: ModelCard, *, n_bootstrap: int, seed: int
) -> tuple[Metrics, Metrics]:
    """Measure the model's prediction and its region-only head as the card says."""
    true = np.concatenate([one.true for one in judged])
    slides = np.repeat(np.arange(len(judged)), [len(one.true) for one in judged])
    thresholds = np.array(
        [card.thresholds.get(name, np.nan) for name in card.class_names], np.float32
    )
    found = []
    for logits in (
        np.concatenate([one.logits for one in judged]),
        np.concatenate([one.region_only_logits for one in judged]),
    ):
        probabilities = probabilities_of(logits, card.temperature)
        predicted = winners(probabilities, thresholds).astype(np.int64)
        predicted[predicted < 0] = FAILED
        found.append(
            measure(
                card.class_names,
                true,
                probabilities.astype(np.float64),
                predicted,
                slides,
                n_bootstrap=n_bootstrap,
                seed=seed,
            )
        )
    return found[0], found[1]


def check_known_classes(slides: list[AnnotatedSlide], card: ModelCard) -> list[str]:
    """Check all annotation files against the model's classes, before any work.

    Returns:
        A note for classes that are annotated nowhere.

    Raises:
        AnnotationError: A file cannot be read, or holds a class that the model does not know.
    """
    annotated = annotated_classes(slides, objects=card.task == "detection")
    known = set(card.class_names)
    if unknown := [f"{name} (in {file})" for name, file in annotated.items() if name not in known]:
        raise AnnotationError(
            f"The annotations hold classes that {card.name} does not know: {', '.join(unknown)}",
            f"It knows: {', '.join(card.class_names)}; rename or remove these annotations",
        )
    wanted = card.point_kinds if card.task == "detection" else card.class_names
    absent = [name for name in wanted if name not in annotated]
    return [f"no annotation is of class {', '.join(absent)}"] if absent else []
