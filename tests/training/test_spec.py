"""What a training or an evaluation is refused for, before any slide is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.training import tiny_training

from xt_backend.config import FeatureOptions
from xt_backend.errors import UsageError
from xt_backend.model import build_region_encoder
from xt_backend.training import EvaluateSpec, TrainSpec
from xt_backend.training.describe import first_card

NEEDED: dict[str, Any] = {"slides": Path("s"), "out": Path("m.safetensors")}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"labels": "l.csv", "context": "none", "slide_head": "class-token"}, "without context"),
        ({"model_mpp": 10.0}, "less than or equal to 5"),
        ({"model_mpp": 0.01}, "greater than or equal to 0.05"),
        ({"dim": 4096, "layers": 64}, "too large"),
        ({"components": 5000}, "less than or equal to 4096"),
        ({"task": "dense", "region_px": 130}, "no multiple of 4"),
        ({"region_px": 128, "input_px": 96}, "not a multiple of input_px"),
    ],
)
def test_no_model_that_its_card_refuses(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        TrainSpec.checked({**NEEDED, **options})


@pytest.mark.parametrize("options", [{"labels": "l.csv"}, {"labels": "l.csv", "task": "slide"}])
def test_without_context_slides_are_predicted_by_attention(options: dict[str, Any]) -> None:
    spec = TrainSpec.checked({**NEEDED, "context": "none", **options})
    assert spec.slide_head == "attention-mil"
    assert TrainSpec.checked({**NEEDED, **options}).slide_head == "class-token"
    assert TrainSpec.checked({**NEEDED, "context": "none"}).slide_head == "class-token"


def test_what_only_the_card_knows_is_bad_usage(tmp_path: Path) -> None:
    encoder = build_region_encoder("test_resnet", region_px=64, weights="random")
    spec = tiny_training(tmp_path, tmp_path / "m.safetensors", task="dense")
    classes = [f"c{n}" for n in range(300)]
    with pytest.raises(UsageError, match="a mask holds at most"):
        first_card(spec, classes, ["#000000"] * 300, encoder)


def test_a_share_that_is_none_is_told_by_its_option() -> None:
    values = {**NEEDED, "min_fraction": {"tumour": 1.5}}
    for shown in ("--min-fraction", "my.yaml: min_fraction"):
        with pytest.raises(UsageError) as caught:
            TrainSpec.checked(values, {"min_fraction": shown})
        assert caught.value.cause == f"{shown} tumour is 1.5"
        assert caught.value.way_out == "It should be less than or equal to 1"
    with pytest.raises(UsageError, match="--min-fraction names tumor, which --classes does not"):
        TrainSpec.checked(
            {**NEEDED, "classes": ("normal", "tumour"), "min_fraction": {"tumor": 0.1}}
        )
    with pytest.raises(UsageError, match="thresholds names tumor, which --classes does not"):
        TrainSpec.checked({**NEEDED, "classes": ("a", "b"), "thresholds": ("tumor",)})


@pytest.mark.parametrize(
    ("kind", "needed"),
    [(FeatureOptions, {}), (TrainSpec, NEEDED), (EvaluateSpec, {"model": "m", "slides": "s"})],
)
def test_one_range_of_pixel_sizes(kind: Any, needed: dict[str, Any]) -> None:
    for mpp in (0.049, 5.01):
        with pytest.raises(UsageError, match="model_mpp"):
            kind.checked({**needed, "model_mpp": mpp})
    for mpp in (0.05, 5.0):
        assert kind.checked({**needed, "model_mpp": mpp}).model_mpp == mpp


@pytest.mark.parametrize(
    ("name", "value"), [("roi", "r.geojson"), ("stride_px", 64), ("max_failed_fraction", 0.5)]
)
def test_evaluation_refuses_what_it_would_ignore(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"leave out {name}"):
        EvaluateSpec.checked({"model": "m", "slides": "s", name: value})
