"""The model of a run is loaded in one way, whoever needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.reference import reference_model

from xt_backend.engine.model_of_run import model_of_run
from xt_backend.errors import ModelError
from xt_backend.model import read_card, save_model
from xt_backend.model.deferred import DeferredEncoder


def test_it_comes_without_its_encoder_and_learns_nothing(tiny_model: Path) -> None:
    card = read_card(tiny_model)
    model = model_of_run(str(tiny_model), card.state_sha256, "cpu", "")
    assert isinstance(model.region_encoder, DeferredEncoder)
    assert not model.training
    assert not any(one.requires_grad for one in model.parameters())


def test_another_or_a_converted_one_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not the model of this run.*Name it again"):
        model_of_run(str(tiny_model), "f" * 64, "cpu", "Name it again")
    converted = tmp_path / "converted.safetensors"
    card = save_model(reference_model(model_mpp=0.5), converted)
    with pytest.raises(ModelError, match="was converted"):
        model_of_run(str(converted), card.state_sha256, "cpu", "")
