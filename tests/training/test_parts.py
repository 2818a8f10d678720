from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.training import begin_on_pixels, tiny_training
from torch import Tensor, nn

from xt_backend.engine import Device
from xt_backend.errors import UsageError
from xt_backend.model import XT, build_region_encoder, load_model
from xt_backend.training import TrainSpec, train
from xt_backend.training.appearance import turn_pixels
from xt_backend.training.parts import parts_loss, pool_parts
from xt_backend.training.pixels import PixelField
from xt_backend.training.streams import TwoStreams

CPU = Device("cpu", "fp32", "asked for")


@pytest.fixture
def spec(slides_folder: Path, tmp_path: Path) -> TrainSpec:
    return tiny_training(
        slides_folder, tmp_path / "parts.safetensors", end_to_end=True, parts=4, context="none",
        epochs=1, workers=0, use_cache=False,
    )  # fmt: skip


def a_field(spec: TrainSpec) -> tuple[XT, PixelField]:
    """The slide whose border between the classes is at x = 192 px, in regions of 96 px."""
    examples, loader = begin_on_pixels(spec, CPU)
    return loader.model, loader.load(examples.slides[1:2], "training")[0]


@pytest.fixture
def wide(spec: TrainSpec) -> TrainSpec:
    return spec.model_copy(update={"region_px": 96, "tokens_per_region": None})


def test_parts_of_regions_have_labels_of_their_own(wide: TrainSpec) -> None:
    _, one = a_field(wide)
    rows = np.arange(len(one.cells))
    parts = one.parts(rows, 4)
    assert len(parts) == 16 * len(rows)
    inside = np.flatnonzero(~one.lattice.is_edge(one.cells))
    mean = parts.soft.reshape(-1, 16, 2)[inside].mean(axis=1)
    assert mean == pytest.approx(one.truth.soft[inside], abs=1e-6)
    second = one.parts(np.array([1]), 4).soft[:, 0]
    assert second.tolist() == [1.0] * 16
    third = one.parts(np.array([2]), 4).soft[:, 0]
    assert third.tolist() == [0.0] * 16


@pytest.mark.parametrize("way", range(8))
def test_labels_turn_with_the_pixels(wide: TrainSpec, way: int) -> None:
    """A head that reads each part's label off the turned pixels makes no mistake."""
    model, one = a_field(wide)
    shifted = one.moved(np.arange(len(one.cells)), (0.5, 0.0), 1.0)
    rows = np.arange(len(shifted.cells))
    dark = shifted.parts(rows, 4).soft[:, 0].reshape(-1, 4, 4, 1)
    assert 0 < dark.mean() < 1

    class Reader(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            share = tokens[:, 0, :1]
            return torch.cat([20 * share, 20 * (1 - share)], dim=1)

    model.region_only_head = Reader()  # type: ignore[assignment]
    shown = turn_pixels((dark * 255).astype(np.uint8), way)
    white = torch.from_numpy(shown.reshape(len(rows), 16, 1) / 255).float()
    weights = torch.ones(2)
    loss = parts_loss(model, shifted, rows, white, way, weights, 0.0)
    assert loss.item() < 1e-3
    wrong = parts_loss(model, shifted, rows, 1 - white, way, weights, 0.0)
    assert wrong.item() > 5


def test_tokens_of_parts_make_up_those_of_the_region() -> None:
    encoder = build_region_encoder(
        "test_resnet", region_px=128, tokens_per_region=2, weights="random"
    )
    encoder.eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    streams = TwoStreams(encoder, CPU, checkpoints=False, parts=4)
    with torch.no_grad():
        fine = streams.encode(pixels)
        expected = encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert fine.shape == (3, 16, encoder.dim)
    assert torch.allclose(streams.pool(fine), expected, atol=1e-5)
    assert pool_parts(fine, 4) is fine


def test_training_from_parts_gives_a_model_of_whole_regions(spec: TrainSpec) -> None:
    result = train(spec.model_copy(update={"slides_per_step": 2}))
    assert result.card.tokens_per_region == 1
    assert result.card.metrics["training"]["parts"] == 4
    assert load_model(spec.out).card.region_encoder.source == "trained"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"end_to_end": False}, "parts are for"), ({"pooling": "cls"}, "class token has no parts")],
)
def test_parts_need_what_they_learn_from(
    slides_folder: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    options = {"end_to_end": True, "parts": 2, **changes}
    with pytest.raises(ValidationError, match=said):
        tiny_training(slides_folder, tmp_path / "m.safetensors", **options)


def test_parts_must_make_up_the_region(spec: TrainSpec) -> None:
    stages: list[str] = []
    with pytest.raises(UsageError, match="5 x 5 parts"):
        train(spec.model_copy(update={"parts": 5}), lambda progress: stages.append(progress.stage))
    assert "encode" not in stages  # before any slide is read
