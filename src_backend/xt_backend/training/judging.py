"""Predictions beside the truth, slide by slide, and the numbers that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.model import XT, ModelCard, ReferenceXT
from xt_backend.store.labels import probabilities_of, winners

from .dataset import SlideField
from .labels import LabelledSlide
from .metrics import FAILED, Metrics, measure

__all__ = ["Judged", "judge", "measure_heads", "missed", "read_head"]


@dataclass(frozen=True)
class Judged:
    """The annotated regions of one slide, or the slide itself, with both heads' logits.

    Attributes:
        true: (n,) labels.
        soft: (n, C) float32 class shares, rows sum to 1.
        logits: (n, C) float32, NaN where the region failed.
        region_only_logits: (n, C) float32, the same; NaN for models without such a head.
        boxes: (n, 4) int64 level-0 px, x0, y0, x1, y1 of the regions; None for whole slides.
        patient: Whose slide it is; empty where nobody asked.
        fold: Number of the fold whose model judged it; 0 without folds.
        read_as: Whose temperature and thresholds its logits are read with; None for the card's that
            is measured.
    """

    true: npt.NDArray[np.int64]
    soft: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    region_only_logits: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.int64] | None = None
    patient: str = ""
    fold: int = 0
    read_as: ModelCard | None = None


def missed(slide: LabelledSlide, card: ModelCard) -> Judged:
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
        boxes=None if by_slide else field.boxes[known],
    )


def read_head(
    logits: npt.NDArray[np.float32], card: ModelCard
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """What a head says, as the card reads it.

    Args:
        logits: (n, C), NaN where the region failed.
        card: Its temperature and thresholds.

    Returns:
        (n, C) probabilities, and (n,) labels, `FAILED` where there is none.
    """
    thresholds = np.array(
        [card.thresholds.get(name, np.nan) for name in card.class_names], np.float32
    )
    probabilities = probabilities_of(logits, card.temperature)
    predicted = winners(probabilities, thresholds).astype(np.int64)
    predicted[predicted < 0] = FAILED
    return probabilities, predicted


def measure_heads(
    judged: Sequence[Judged],
    card: ModelCard,
    *,
    patients: Sequence[str] | None = None,
    ordered: bool = False,
    n_bootstrap: int,
    seed: int,
) -> tuple[Metrics, Metrics]:
    """Measure the model's prediction and its region-only head as the card says.

    Args:
        judged: By slide.
        card: Its classes, temperature and thresholds.
        patients: Whose slide each is.
        ordered: Whether the classes have an order.
        n_bootstrap: Resamples.
        seed: Of the resampling.
    """
    lengths = [len(one.true) for one in judged]
    numbers = None
    if patients is not None:
        numbers = np.repeat(np.unique(list(patients), return_inverse=True)[1], lengths)

    def measured(logits: Sequence[npt.NDArray[np.float32]]) -> Metrics:
        read = [
            read_head(some, one.read_as or card) for some, one in zip(logits, judged, strict=True)
        ]
        return measure(
            card.class_names,
            np.concatenate([one.true for one in judged]),
            np.concatenate([probabilities for probabilities, _ in read]).astype(np.float64),
            np.concatenate([predicted for _, predicted in read]),
            np.repeat(np.arange(len(judged)), lengths),
            patients=numbers,
            ordered=ordered,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )

    return (
        measured([one.logits for one in judged]),
        measured([one.region_only_logits for one in judged]),
    )
