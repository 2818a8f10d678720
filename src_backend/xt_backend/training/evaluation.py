"""How good a model is on annotated slides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.errors import AnnotationError, EngineError, ModelError, SlideError
from xt_backend.model import XT, ModelCard, find_model, load_model
from xt_backend.store.labels import probabilities_of, winners

from .annotations import AnnotatedSlide, annotated_classes, pair_slides
from .dataset import SlideField, load_field, true_labels
from .events import Progress, ProgressCallback, ignore
from .metrics import FAILED, Metrics, measure
from .spec import EvaluateSpec

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
        notes: What the user should know.
    """

    model: str
    slides: dict[str, dict[str, int]]
    failed: dict[str, str]
    context: Metrics
    region_only: Metrics | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; no paths."""
        return {
            "model": self.model,
            "slides": self.slides,
            "failed": self.failed,
            "context": self.context.to_dict(),
            "region_only": self.region_only.to_dict() if self.region_only else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Judged:
    """The annotated regions of one slide with both heads' logits.

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
    """Compare a model's predictions with annotations.

    Judged are the regions of tissue that are annotated enough (the model's label rule); those
    that could not be read count as wrong. Slides that cannot be judged are listed, never dropped.

    Raises:
        InputNotFoundError: A folder or the model file does not exist.
        ModelError: The model cannot be used.
        AnnotationError: Annotations are missing or hold classes that the model does not know.
        SlideError: Not one slide could be judged.
    """
    device = choose_device(spec.device, spec.precision)
    model = load_model(find_model(spec.model))
    card = model.card
    if card.task != "region":
        raise ModelError(f"{card.name} predicts one label per slide", "Evaluate a region model")
    folders = [spec.annotations or spec.slides]
    slides = pair_slides(spec.slides, folders)
    notes = check_known_classes(slides, card)
    encoder = BatchEncoder(model.region_encoder, device)
    model.to(device.name)
    judged: dict[str, Judged] = {}
    failed: dict[str, str] = {}
    first_error: SlideError | EngineError | None = None
    for index, slide in enumerate(slides):
        progress(Progress("evaluate", index, len(slides), slide.name))
        try:
            field = load_field(slide, card, encoder, spec)
        except (SlideError, EngineError) as error:
            first_error = first_error or error
            failed[slide.name] = str(error)
            continue
        notes += [f"{slide.name}: {note}" for note in field.notes]
        judged[slide.name] = judge(model, field)
        if not len(judged[slide.name].true):
            notes.append(f"{slide.name}: no region is annotated enough to be judged")
    if first_error is not None and not judged:
        raise first_error
    progress(Progress("evaluate", len(slides), len(slides), "bootstrap"))
    context, region_only = measure_heads(
        list(judged.values()), card, n_bootstrap=spec.bootstrap, seed=spec.seed
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
        notes=tuple(notes),
    )


def judge(model: XT, field: SlideField) -> Judged:
    """Predict a whole field and keep its annotated regions; the others are context only."""
    card = model.card
    n = len(field)
    logits = np.full((n, len(card.classes)), np.nan, np.float32)
    region_only = logits.copy()
    scored = field.scored
    if scored.any():
        device = next(model.parameters()).device
        features = torch.from_numpy(field.features[scored]).to(device, torch.float32)
        positions_um = torch.from_numpy(field.positions_um[scored])
        with torch.inference_mode():
            prediction = model.predict(features, positions_um)
        logits[scored] = prediction.logits.float().cpu().numpy()
        region_only[scored] = prediction.region_only_logits.float().cpu().numpy()
    rows = field.annotated(card.label_rule)
    return Judged(
        true=true_labels(field.targets, card.class_names, card.label_rule)[rows],
        soft=field.targets.soft()[rows],
        logits=logits[rows],
        region_only_logits=region_only[rows],
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
    annotated = annotated_classes(slides)
    known = set(card.class_names)
    if unknown := [f"{name} (in {file})" for name, file in annotated.items() if name not in known]:
        raise AnnotationError(
            f"The annotations hold classes that {card.name} does not know: {', '.join(unknown)}",
            f"It knows: {', '.join(card.class_names)}; rename or remove these annotations",
        )
    absent = [name for name in card.class_names if name not in annotated]
    return [f"no annotation is of class {', '.join(absent)}"] if absent else []
