"""Slides to train and test on, as fields of tokens that were encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.model import XT, RegionEncoder
from xt_backend.training import Progress, TrainSpec
from xt_backend.training.annotations import pair_slides
from xt_backend.training.events import Warnings
from xt_backend.training.examples import read_examples
from xt_backend.training.fields import FieldLoader, LabelledField
from xt_backend.training.trainer import new_model

from .slides import sample_slides

__all__ = ["CLASSES", "STROMA", "FieldSet", "load_samples"]

CLASSES = ("normal", "reactive", "nest", "other")
STROMA = CLASSES[:2]
"""The classes of sample slides that only context tells apart."""


@dataclass(frozen=True)
class FieldSet:
    """What several trainings share.

    Attributes:
        train: To learn from.
        val: To choose the best epoch; empty where the last is taken.
        test: Seen by neither.
        classes: In the order of the labels.
        colors: ``#rrggbb`` of each.
        pitch_um: Step of the lattice.
        encoder: That made the features; it is not trained.
        whitening: State of `Reduce`, fitted on the training slides.
    """

    train: Sequence[LabelledField]
    val: Sequence[LabelledField]
    test: Sequence[LabelledField]
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    pitch_um: float
    encoder: RegionEncoder
    whitening: dict[str, torch.Tensor]


def load_samples(
    work: Path,
    options: dict[str, Any],
    slides: Sequence[tuple[int, int]],
    size_px: int,
    tell: Callable[[str], None],
) -> FieldSet:
    """Write, encode and label sample slides, as `napari-xt train` does.

    Args:
        work: The working folder; keeps slides and features.
        options: Of `TrainSpec`: the encoder, regions and components.
        slides: Number and seed of the slides for training, validation and test.
        size_px: Side of each slide.
        tell: Takes a line about what is being done.
    """
    train, val, test = (sample_slides(work, n, size_px, seed, tell) for n, seed in slides)
    spec = TrainSpec(
        slides=train,
        val=val,
        out=work / "none.safetensors",
        classes=CLASSES,
        cache=work / "regions",
        **options,
    )
    warn = Warnings(lambda notice: tell(notice.lines[0]))
    examples = read_examples(spec, warn)
    model: XT = new_model(spec, examples)
    device = choose_device(spec.device, spec.precision)
    encoder = BatchEncoder(model.region_encoder, device)
    n_slides = sum(n for n, _ in slides)

    def on_slide(progress: Progress) -> None:
        tell(f"slide {progress.done + 1} of {n_slides}, {progress.message}")

    loader = FieldLoader(model, encoder, spec, on_slide, n_slides, [], warn)
    return FieldSet(
        train=loader.load_training(examples.slides),
        val=loader.load_validation(examples.val),
        test=loader.load_validation(pair_slides(test, [test])),
        classes=examples.classes,
        colors=examples.colors,
        pitch_um=loader.pitch_um,
        encoder=model.region_encoder,
        whitening=whitening_of(model),
    )


def whitening_of(model: XT) -> dict[str, torch.Tensor]:
    """What `Reduce.fit_whitening` found."""
    return {name: value.clone() for name, value in model.reduce.named_buffers()}
