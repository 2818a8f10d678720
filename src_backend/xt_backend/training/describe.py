"""The model card of a trained model: what it was trained on, how, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from xt_backend.errors import UsageError
from xt_backend.keys import RESEARCH_USE
from xt_backend.model import (
    ClassInfo,
    ContextInfo,
    DetectionInfo,
    LabelRule,
    ModelCard,
    ReduceInfo,
    RegionEncoder,
    SlideHeadInfo,
    StainInfo,
)
from xt_backend.model.card import first_problems
from xt_backend.slides import COLOUR_NUMBERS
from xt_backend.store.labels import probabilities_of
from xt_backend.wording import counted

from .calibrate import fit_temperature, fit_thresholds
from .doubts import doubts_of_labels, doubts_of_points
from .fit import Fitter
from .judging import Judged, measure_heads
from .metrics import Metrics
from .pixel_judging import PixelJudged, fit_point_thresholds, measure_pixels
from .pixel_metrics import PixelMetrics
from .spec import TrainSpec

__all__ = ["Measured", "complete_card", "first_card", "recipe"]

BOOTSTRAP = 1000

MOST_PATIENTS = 20
"""With more of them the card does not list how good the model is on each."""

_VALIDATION_NOTE = (
    "The validation slides also chose epoch, temperature and thresholds; measure on other slides "
    "before relying on these numbers."
)
_FOLDS_NOTE = (
    "Every slide here was predicted by a model of {} that had not seen its patient, read with the "
    "temperature and thresholds that suit the other folds. Those stored suit all of them; the "
    "model in this file was trained on all slides."
)

_NOT_RECIPE = {
    # Paths, and what changes no result or has its own place in the card.
    "annotations", "batch_size", "cache", "citation", "intended_use", "licence", "name",
    "labels", "offline", "out", "patients", "resume", "roi", "slides", "tissue", "training_data",
    "use_cache", "val", "weights", "workers",
}  # fmt: skip


def first_card(
    spec: TrainSpec,
    classes: Sequence[str],
    colors: Sequence[str],
    region_encoder: RegionEncoder,
    stain: StainInfo | None = None,
) -> ModelCard:
    """The card of a model that has learnt nothing yet.

    Raises:
        UsageError: There can be no such model.
    """
    try:
        return _first_card(spec, classes, colors, region_encoder, stain)
    except ValidationError as error:
        raise UsageError(
            f"There can be no such model: {first_problems(error)}", "Correct what is named there"
        ) from error


def _first_card(
    spec: TrainSpec,
    classes: Sequence[str],
    colors: Sequence[str],
    region_encoder: RegionEncoder,
    stain: StainInfo | None,
) -> ModelCard:
    return ModelCard(
        name=spec.name or spec.out.stem,
        task=spec.task,
        classes=tuple(
            ClassInfo(name=name, color=color) for name, color in zip(classes, colors, strict=True)
        ),
        label_rule=LabelRule(
            min_annotated_fraction=spec.min_annotated_fraction, min_fraction=spec.min_fraction
        ),
        model_mpp=spec.model_mpp,
        region_px=spec.region_px,
        input_px=region_encoder.input_px,
        tokens_per_region=region_encoder.tokens_per_region,
        region_encoder=region_encoder.info,
        reduce=ReduceInfo(components=spec.components),
        context=ContextInfo(
            kind=spec.context, dim=spec.dim, layers=spec.layers, options=spec.context_arguments
        ),
        slide_head=SlideHeadInfo(kind=spec.slide_head),
        detection=DetectionInfo(peak_radius_um=spec.peak_radius_um),
        stain=stain,
        mean=tuple(region_encoder.mean.flatten().tolist()),
        std=tuple(region_encoder.std.flatten().tolist()),
        licence=spec.licence,
        citation=spec.citation,
        intended_use=spec.intended_use or RESEARCH_USE,
    )


@dataclass(frozen=True)
class Measured:
    """How good a model is on what it had not learnt from.

    Attributes:
        context: Its prediction of regions or slides.
        region_only: The region-only head's.
        pixels: Its masks or points; None without a decoder.
        warnings: What speaks against what was fitted.
    """

    context: Metrics
    region_only: Metrics
    pixels: PixelMetrics | None = None
    warnings: tuple[str, ...] = ()


def complete_card(
    spec: TrainSpec,
    fitter: Fitter,
    judged: Sequence[Judged],
    pixels: Sequence[PixelJudged],
    n_val: int,
) -> Measured:
    """Fit temperature and thresholds, measure, and fill the model's card.

    Args:
        spec: The recipe.
        fitter: Done.
        judged: The validation slides; with folds, every slide as the model saw it that had not
            learnt from it.
        pixels: The same for what the decoder says; empty without one.
        n_val: Slides that chose the best epoch.
    """
    model = fitter.model
    card = _calibrated(model.card, judged, spec)
    card = card.model_copy(
        update={
            "feature_stats": fitter.learner.feature_stats(),
            "colour_range": _range(fitter.learner.colours()),
            "training_data": _training_data(spec, fitter, n_val),
            "detection": card.detection.model_copy(
                update={"thresholds": fit_point_thresholds(pixels, card.point_kinds)}
            ),
        }
    )
    warnings = (*doubts_of_labels(card, judged), *doubts_of_points(card, pixels))
    if spec.folds is not None:
        judged = _read_by_others(judged, card, spec)
    context, region_only = measure_heads(judged, card, n_bootstrap=BOOTSTRAP, seed=spec.seed)
    name, note = "validation", _VALIDATION_NOTE
    if spec.folds is not None:
        name, note = "cross_validation", _FOLDS_NOTE.format(spec.folds)
    by_patient = _by_patient(judged, card)
    by_pixel = None
    if card.has_dense_head:
        by_pixel = measure_pixels(pixels, card, n_bootstrap=BOOTSTRAP, seed=spec.seed)
    metrics: dict[str, Any] = {
        **({f"{name}_pixels": by_pixel.to_dict()} if by_pixel else {}),
        name: context.to_dict(),
        f"{name}_region_only": region_only.to_dict(),
        **({f"{name}_by_patient": by_patient} if by_patient else {}),
        "note": note,
        "training": {
            **recipe(spec),
            "best_epoch": fitter.best_epoch,
            "epochs_done": len(fitter.history),
        },
    }
    model.card = card.model_copy(update={"metrics": metrics})
    return Measured(context, region_only, by_pixel, warnings)


def _calibrated(card: ModelCard, judged: Sequence[Judged], spec: TrainSpec) -> ModelCard:
    """The card with the temperature and the thresholds that suit some predictions."""
    logits = np.concatenate([one.logits for one in judged])
    soft = np.concatenate([one.soft for one in judged])
    true = np.concatenate([one.true for one in judged])
    weights = _counts(judged, even=spec.even_patients)
    groups = _groups(judged)
    finite = np.isfinite(logits).all(axis=1)
    logits, soft, true = logits[finite], soft[finite], true[finite]
    weights, groups = weights[finite], groups[finite]
    temperature = fit_temperature(logits, soft, weights)
    probabilities = probabilities_of(logits, temperature)
    columns = {name: card.class_names.index(name) for name in spec.fitted_thresholds}
    thresholds = fit_thresholds(
        true,
        probabilities,
        columns,
        spec.threshold_goal,
        weights,
        groups=groups,
        margin=spec.threshold_margin,
    )
    return card.model_copy(update={"temperature": temperature, "thresholds": thresholds})


def _read_by_others(judged: Sequence[Judged], card: ModelCard, spec: TrainSpec) -> list[Judged]:
    """Predictions read as suits the other folds, so that no slide has a part in its own reading."""
    cards = {}
    for fold in {one.fold for one in judged}:
        others = [one for one in judged if one.fold != fold]
        cards[fold] = _calibrated(card, others, spec) if others else card
    return [replace(one, read_as=cards[one.fold]) for one in judged]


def _counts(judged: Sequence[Judged], *, even: bool) -> npt.NDArray[np.float64]:
    """What each judged thing counts: 1, or as much as makes all patients count alike."""
    sizes = [len(one.true) for one in judged]
    of_patient: dict[str, int] = {}
    for one, size in zip(judged, sizes, strict=True):
        of_patient[one.patient] = of_patient.get(one.patient, 0) + size
    if not even or len(of_patient) < 2:
        return np.ones(sum(sizes))
    shares = [1.0 / max(1, of_patient[one.patient]) for one in judged]
    return np.repeat(shares, sizes) * sum(sizes) / len(of_patient)


def _groups(judged: Sequence[Judged]) -> npt.NDArray[np.int64]:
    """The number of the patient of each judged thing, or of the slide where it is not known."""
    names = [one.patient or f"slide {number}" for number, one in enumerate(judged)]
    numbers = np.unique(names, return_inverse=True)[1]
    return np.repeat(numbers, [len(one.true) for one in judged])


def _by_patient(judged: Sequence[Judged], card: ModelCard) -> list[dict[str, Any]]:
    """How good the model is on each patient, without names; empty where they are not known."""
    found: dict[str, list[Judged]] = {}
    for one in judged:
        found.setdefault(one.patient, []).append(one)
    if set(found) == {""} or len(found) > MOST_PATIENTS:
        return []
    rows = []
    for some in found.values():
        metrics, _ = measure_heads(some, card, n_bootstrap=0, seed=0)
        rows.append(
            {
                "n_slides": len(some),
                "n_regions": metrics.n_regions,
                "auroc": {name: value.to_dict()["value"] for name, value in metrics.auroc.items()},
                "balanced_accuracy": metrics.balanced_accuracy.to_dict()["value"],
            }
        )
    return rows


def _range(colours: Sequence[Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Smallest and largest of each number; empty where no slide is stained."""
    if not colours:
        return {}
    columns = zip(*colours, strict=True)
    return {
        name: (min(all_), max(all_)) for name, all_ in zip(COLOUR_NUMBERS, columns, strict=True)
    }


def recipe(spec: TrainSpec) -> dict[str, Any]:
    """The settings that the result depends on, as plain data without paths."""
    dumped = spec.model_dump(mode="json")
    return {name: value for name, value in sorted(dumped.items()) if name not in _NOT_RECIPE}


def _training_data(spec: TrainSpec, fitter: Fitter, n_val: int) -> str:
    """What the model has seen, in one paragraph without file names."""
    card = fitter.model.card
    counts = fitter.learner.counts()
    listed = ", ".join(
        f"{name} {count}" for name, count in zip(card.class_names, counts, strict=True)
    )
    what = f"{counts.sum()} annotated regions of {card.region_um:g} um"
    if spec.task == "slide":
        what = f"one label each, in regions of {card.region_um:g} um"
    if spec.task == "detection":
        what = f"regions of {card.region_um:g} um by the objects in them"
    text = f"{counted(len(fitter.learner), 'slide')} with {what} ({listed}) for training"
    if n_val:
        text += f", {counted(n_val, 'slide')} for validation"
    return f"{spec.training_data.rstrip()} {text}, at {card.mpp():g} um/px.".strip()
