"""A model whose region encoder is made when it is needed is the same model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from xt_backend.errors import ModelError
from xt_backend.model import XT, load_model, save_model
from xt_backend.model.deferred import DeferredEncoder

Make = Callable[..., XT]


def rewrite(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("components", [0, 4])
def test_it_is_the_same_model(make_xt: Make, tmp_path: Path, components: int) -> None:
    model = make_xt(reduce={"components": components})
    model.region_encoder.round_to_half()
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    whole, deferred = load_model(path), load_model(path, defer_encoder=True)
    assert isinstance(deferred.region_encoder, DeferredEncoder)
    assert deferred.card == whole.card
    assert deferred.region_encoder.numerics() == whole.region_encoder.numerics()
    assert deferred.region_encoder.dim == whole.region_encoder.dim
    image = torch.randn(1, 3, 2 * whole.card.region_px, whole.card.region_px)
    with torch.inference_mode():
        np.testing.assert_array_equal(deferred(image).numpy(), whole(image).numpy())
    mine, its = deferred.region_encoder, whole.region_encoder
    assert (mine.pyramid_channels, mine.pyramid_sides) == (its.pyramid_channels, its.pyramid_sides)
    side = whole.card.region_px
    region = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
    np.testing.assert_array_equal(mine.normalise(region).numpy(), its.normalise(region).numpy())
    for found, wanted in zip(mine.pyramid(region), its.pyramid(region), strict=True):
        np.testing.assert_array_equal(found.detach().numpy(), wanted.detach().numpy())
    assert not any(one.is_inference() for one in mine.ready().parameters())
    assert deferred.region_encoder.ready() is deferred.region_encoder.ready()


def test_its_weights_are_checked_when_it_is_loaded(make_xt: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(make_xt(), path)
    good = load_file(path)
    for name in ("reduce.mean", "region_encoder.backbone.patch.weight"):
        bad = {key: tensor.clone() for key, tensor in good.items()}
        bad[name].view(-1)[0] += 1e-3
        rewrite(path, bad)
        with pytest.raises(ModelError, match="do not have the sha256"):
            load_model(path, defer_encoder=True)
    without = {key: tensor for key, tensor in good.items() if key != "reduce.mean"}
    rewrite(path, without)
    with pytest.raises(ModelError, match=r"missing: reduce\.mean"):
        load_model(path, defer_encoder=True)


def test_only_what_can_wait_is_deferred(make_xt: Make, tmp_path: Path) -> None:
    """Masks need the encoder in any case, and what is not in the file cannot be read from it."""
    path = tmp_path / "m.safetensors"
    save_model(make_xt(task="dense"), path)
    assert not isinstance(load_model(path, defer_encoder=True).region_encoder, DeferredEncoder)


def test_it_cannot_be_saved_without_its_weights(make_xt: Make, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(make_xt(), path)
    with pytest.raises(ModelError, match="without its region encoder"):
        save_model(load_model(path, defer_encoder=True), tmp_path / "copy.safetensors")
    assert not (tmp_path / "copy.safetensors").exists()
