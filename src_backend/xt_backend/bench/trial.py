"""One training on features that are there already, and how good it came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xt_backend.model import XT
from xt_backend.training import Metrics, TrainSpec
from xt_backend.training.cached import CachedLearner, judge_fields
from xt_backend.training.describe import first_card
from xt_backend.training.fit import Fitter
from xt_backend.training.judging import measure_heads
from xt_backend.training.trainer import repeatable

from .fields import FieldSet

__all__ = ["Trial", "run_trial"]


@dataclass(frozen=True)
class Trial:
    """The outcome of a training.

    Attributes:
        model: At its best epoch.
        context: Measured on the test fields.
        region_only: The same of the region-only head.
        best_epoch: From 1.
        seconds: Of the training, without the encoding.
        parameters: Of what was trained.
    """

    model: XT
    context: Metrics
    region_only: Metrics
    best_epoch: int
    seconds: float
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """The numbers, as plain data."""
        values: dict[str, Any] = {
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 1),
            "parameters": self.parameters,
        }
        for name, found in (("context", self.context), ("region_only", self.region_only)):
            values[name] = {
                "f1": {key: value.value for key, value in found.f1.items()},
                "auroc": {key: value.value for key, value in found.auroc.items()},
                "macro_f1": found.macro_f1.value,
                "balanced_accuracy": found.balanced_accuracy.value,
                "accuracy": found.accuracy.value,
            }
        return values


def run_trial(fields: FieldSet, options: dict[str, Any], tell: Callable[[str], None]) -> Trial:
    """Train a new model and measure it on the test fields.

    Args:
        fields: The features.
        options: Of `TrainSpec`, those that the features were made with among them.
        tell: Takes a line about every epoch.

    Raises:
        LossNotFiniteError: The loss became NaN.
    """
    folder = Path("bench")  # nothing is read and nothing is written there
    spec = TrainSpec(slides=folder, out=folder, classes=fields.classes, **options)
    card = first_card(spec, fields.classes, fields.colors, fields.encoder)
    model = XT(card, fields.encoder, generator=torch.Generator().manual_seed(spec.seed))
    model.reduce.load_state_dict(fields.whitening, strict=False)
    learner = CachedLearner(model, fields.train, fields.val, spec, fields.pitch_um)
    fitter = Fitter(learner, spec)
    start = time.perf_counter()

    def on_epoch(row: dict[str, float]) -> None:
        tell(f"epoch {int(row['epoch'])} of {spec.epochs}, training F1 {row['train_f1']:.2f}")

    with repeatable(spec.seed):
        fitter.run(on_epoch)
    seconds = time.perf_counter() - start
    judged = judge_fields(model, fields.test)
    context, region_only = measure_heads(judged, card, n_bootstrap=0, seed=0)
    trained = [
        value.numel()
        for name, value in model.named_parameters()
        if not name.startswith("region_encoder.")
    ]
    return Trial(model, context, region_only, fitter.best_epoch, seconds, sum(trained))
