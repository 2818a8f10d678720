"""The model card of a trained model: what it was trained on, how, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xt_backend.keys import RESEARCH_USE
from xt_backend.model import (
    XT,
    ClassInfo,
    ContextInfo,
    FeatureStats,
    LabelRule,
    ModelCard,
    ReduceInfo,
    RegionEncoder,
)
from xt_backend.store.labels import probabilities_of

from .calibrate import fit_temperature, fit_threshold
from .evaluation import Judged, measure_heads
from .fit import Fitter, LabelledField, predict_fields
from .metrics import Metrics
from .spec import TrainSpec

__all__ = ["complete_card", "first_card", "recipe"]

BOOTSTRAP = 1000

_NOT_RECIPE = {
    # Paths, and what changes no result or has its own place in the card.
    "annotations", "batch_size", "cache", "citation", "intended_use", "licence", "name",
    "offline", "out", "patients", "roi", "slides", "tissue", "training_data", "use_cache", "val",
    "weights", "workers",
}  # fmt: skip


def first_card(
    spec: TrainSpec,
    classes: Sequence[str],
    colors: Sequence[str],
    region_encoder: RegionEncoder,
) -> ModelCard:
    """The card of a model that has learnt nothing yet."""
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
        tokens_per_region=spec.tokens_per_region,
        region_encoder=region_encoder.info,
        reduce=ReduceInfo(components=spec.components),
        context=ContextInfo(
            kind=spec.context, dim=spec.dim, layers=spec.layers, options=spec.context_arguments
        ),
        mean=tuple(region_encoder.mean.flatten().tolist()),
        std=tuple(region_encoder.std.flatten().tolist()),
        licence=spec.licence,
        citation=spec.citation,
        intended_use=spec.intended_use or RESEARCH_USE,
    )


def complete_card(
    spec: TrainSpec,
    model: XT,
    fields: Sequence[LabelledField],
    val: Sequence[LabelledField],
    fitter: Fitter,
) -> tuple[Metrics, Metrics]:
    """Fit temperature and thresholds on the validation slides, measure, and fill the model's card.

    Returns:
        Metrics of the prediction with context, and of the region-only head.
    """
    judged = []
    for one, (logits, alone) in zip(val, predict_fields(model, val), strict=True):
        rows = one.view.weights > 0
        judged.append(Judged(one.true[rows], one.view.soft[rows], logits[rows], alone[rows]))
    logits = np.concatenate([one.logits for one in judged])
    soft = np.concatenate([one.soft for one in judged])
    true = np.concatenate([one.true for one in judged])
    temperature = fit_temperature(logits, soft, np.ones(len(soft)))
    probabilities = probabilities_of(logits, temperature)
    best = probabilities.argmax(axis=1)
    thresholds = {}
    for name in spec.fitted_thresholds:
        column = model.card.class_names.index(name)
        found = fit_threshold(true == column, probabilities[:, column], best == column)
        if found is not None:
            thresholds[name] = found
    tokens = np.concatenate([one.view.tokens for one in fields]).reshape(-1, model.reduce.width)
    card = model.card.model_copy(
        update={
            "temperature": temperature,
            "thresholds": thresholds,
            "feature_stats": FeatureStats(
                mean=tuple(float(value) for value in tokens.mean(axis=0, dtype=np.float64)),
                std=tuple(float(value) for value in tokens.std(axis=0, dtype=np.float64)),
            ),
            "training_data": _training_data(spec, model.card, fields, val),
        }
    )
    context, region_only = measure_heads(judged, card, n_bootstrap=BOOTSTRAP, seed=spec.seed)
    metrics = {
        "validation": context.to_dict(),
        "validation_region_only": region_only.to_dict(),
        "note": "The validation slides also chose epoch, temperature and thresholds; "
        "measure on other slides before relying on these numbers.",
        "training": {
            **recipe(spec),
            "best_epoch": fitter.best_epoch,
            "epochs_done": len(fitter.history),
        },
    }
    model.card = card.model_copy(update={"metrics": metrics})
    return context, region_only


def recipe(spec: TrainSpec) -> dict[str, Any]:
    """The settings that the result depends on, as plain data without paths."""
    dumped = spec.model_dump(mode="json")
    return {name: value for name, value in sorted(dumped.items()) if name not in _NOT_RECIPE}


def _training_data(
    spec: TrainSpec,
    card: ModelCard,
    fields: Sequence[LabelledField],
    val: Sequence[LabelledField],
) -> str:
    """What the model has seen, in one paragraph without file names."""
    counts = np.zeros(len(card.classes), np.int64)
    for one in fields:
        counts += np.bincount(one.true[one.view.weights > 0], minlength=len(counts))
    listed = ", ".join(
        f"{name} {count}" for name, count in zip(card.class_names, counts, strict=True)
    )
    text = (
        f"{len(fields)} slides with {counts.sum()} annotated regions of {card.region_um:g} um "
        f"({listed}) for training, {len(val)} slides for validation, at {card.model_mpp:g} um/px."
    )
    return f"{spec.training_data.rstrip()} {text}".strip()
