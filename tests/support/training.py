"""The smallest training that still does everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt_backend.training import TrainSpec

if TYPE_CHECKING:
    from xt_backend.engine import Device
    from xt_backend.training.examples import Examples
    from xt_backend.training.pixel_loader import PixelLoader

__all__ = ["begin_on_pixels", "tiny_training"]

TINY: dict[str, Any] = {
    "region_encoder": "test_resnet",
    "weights": "random",
    "slide_mpp": 1.0,
    "model_mpp": 1.0,
    "region_px": 64,
    "tokens_per_region": 1,
    "components": 2,
    "dim": 16,
    "layers": 1,
    "context": "attention",
    "tissue": "all",
    "device": "cpu",
}


def tiny_training(slides: Path, out: Path, **changes: Any) -> TrainSpec:
    """A training of seconds on slides of 1 um/px, with other settings where `changes` say so."""
    return TrainSpec(**{"slides": slides, "out": out, **TINY, **changes})


def begin_on_pixels(spec: TrainSpec, device: Device) -> tuple[Examples, PixelLoader]:
    """What there is before the first step: the examples, and what loads them for a new model."""
    from xt_backend.engine import BatchEncoder
    from xt_backend.training.events import Warnings, ignore
    from xt_backend.training.examples import read_examples
    from xt_backend.training.pixel_loader import PixelLoader
    from xt_backend.training.trainer import new_model

    warn = Warnings(ignore)
    examples = read_examples(spec, warn)
    model = new_model(spec, examples)
    encoder = BatchEncoder(model.region_encoder, device)
    n_slides = len(examples.slides)
    return examples, PixelLoader(model, encoder, spec, ignore, n_slides, [], warn)
