"""The smallest training that still does everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xt_backend.training import TrainSpec

__all__ = ["tiny_training"]

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
