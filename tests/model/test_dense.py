"""Pyramids, the decoder of dense models, and such models as a whole and as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from xt_backend.errors import ModelError, UsageError
from xt_backend.model import (
    XT,
    DenseHead,
    DenseHeadInfo,
    DetectionInfo,
    RegionEncoder,
    build_region_encoder,
    load_model,
    save_model,
)

from .test_region import SMALL_VIT, SWIN, pixels

Make = Callable[..., XT]
Field = Callable[..., tuple[Tensor, Tensor]]
SMALL = DenseHeadInfo(width=8)

# name, region, input, arguments, channels and sides of the pyramid
PYRAMIDS: list[tuple[str, int, int, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    ("tf_efficientnet_lite0", 128, 64, {}, (24, 40, 112, 1280), (32, 16, 8, 4)),
    ("swinv2_tiny_window8_256", 128, 64, SWIN, (24, 48, 96, 192), (32, 16, 8, 4)),
    ("hiera_tiny_224", 64, 64, {"embed_dim": 16}, (16, 32, 64, 128), (16, 8, 4, 2)),
    ("convnext_atto", 128, 64, {}, (40, 80, 160, 320), (32, 16, 8, 4)),
    ("resnet10t", 64, 64, {}, (64, 128, 256, 512), (16, 8, 4, 2)),
    ("vit_tiny_patch16_224", 64, 32, SMALL_VIT, (48,), (4,)),
    ("vit_small_patch14_reg4_dinov2", 56, 28, SMALL_VIT, (48,), (4,)),
]


def make_encoder(name: str, region: int, size: int, args: dict[str, Any]) -> RegionEncoder:
    return build_region_encoder(
        name, region_px=region, input_px=size, weights="random", backbone_args=args
    )


@pytest.mark.parametrize(
    ("name", "region", "size", "args", "channels", "sides"), PYRAMIDS, ids=[p[0] for p in PYRAMIDS]
)
def test_pyramid_comes_from_one_pass_and_ends_with_the_last_map(
    name: str,
    region: int,
    size: int,
    args: dict[str, Any],
    channels: tuple[int, ...],
    sides: tuple[int, ...],
) -> None:
    encoder = make_encoder(name, region, size, args)
    images = pixels(region)
    with torch.no_grad():
        last, tokens = encoder.feature_maps(images), encoder(images)
        assert encoder.pyramid_channels == channels
        assert encoder.pyramid_sides == sides
        calls = []
        stem = next(part for part in encoder.backbone.modules() if not list(part.children()))
        handle = stem.register_forward_hook(lambda *_: calls.append(1))
        found = encoder.pyramid(images)
        handle.remove()
    assert calls == [1]
    assert [tuple(one.shape) for one in found] == [
        (2, count, side, side) for count, side in zip(channels, sides, strict=True)
    ]
    assert torch.equal(found[-1], last)
    assert torch.equal(encoder.tokens(found[-1]), tokens)
    assert [tuple(one.shape) for one in encoder.pyramid(images[:0])] == [
        (0, *one.shape[1:]) for one in found
    ]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "swinv2_tiny_window8_256"])
def test_maps_of_sub_regions_are_stitched_in_their_places(name: str) -> None:
    encoder = make_encoder(name, 128, 64, SWIN if name.startswith("swin") else {})
    alone = make_encoder(name, 64, 64, SWIN if name.startswith("swin") else {})
    alone.load_state_dict(encoder.state_dict())
    images = pixels(128)
    with torch.no_grad():
        whole = encoder.pyramid(images)
        for row in range(2):
            for col in range(2):
                part = images[:, :, row * 64 : row * 64 + 64, col * 64 : col * 64 + 64]
                for big, small in zip(whole, alone.pyramid(part), strict=True):
                    side = small.shape[-1]
                    place = big[
                        :, :, row * side : row * side + side, col * side : col * side + side
                    ]
                    assert torch.allclose(place, small, atol=1e-4, rtol=1e-4)


def test_without_overlap_between_patches_a_stitched_map_is_the_whole_one(toy: str) -> None:
    whole = build_region_encoder(toy, region_px=32, input_px=32, weights="random")
    parts = build_region_encoder(toy, region_px=32, input_px=16, weights="random")
    with torch.no_grad():
        (one,), (other,) = whole.pyramid(pixels(32)), parts.pyramid(pixels(32))
    assert torch.allclose(one, other, atol=1e-6)


def test_asking_for_the_pyramid_leaves_training_modes_alone() -> None:
    encoder = make_encoder("tf_efficientnet_lite0", 64, 64, {}).train()
    encoder.backbone.bn1.eval()
    before = {name: part.training for name, part in encoder.named_modules()}
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert encoder.pyramid_channels == (24, 40, 112, 1280)
    assert {name: part.training for name, part in encoder.named_modules()} == before
    assert all(torch.equal(state[name], value) for name, value in encoder.state_dict().items())


def head(sides: tuple[int, ...], region_px: int, **options: Any) -> tuple[DenseHead, list[Tensor]]:
    torch.manual_seed(0)
    channels = tuple(6 + n for n in range(len(sides)))
    maps = [torch.randn(3, count, side, side) for count, side in zip(channels, sides, strict=True)]
    made = DenseHead(
        channels, sides, region_px=region_px, dim=5, n_channels=4, width=8, **options
    ).eval()
    for block in made.blocks:
        torch.nn.init.normal_(block.modulate.weight)
    return made, maps


@pytest.mark.parametrize(
    ("sides", "region_px"),
    [((16, 8, 4, 2), 64), ((4,), 64), ((4,), 56), ((3, 2), 100), ((26, 13), 100), ((1,), 4)],
)
def test_logits_have_a_quarter_of_the_regions_side(sides: tuple[int, ...], region_px: int) -> None:
    made, maps = head(sides, region_px)
    assert made(maps, torch.randn(3, 5)).shape == (3, 4, region_px // 4, region_px // 4)
    empty = [one[:0] for one in maps]
    assert made(empty, torch.zeros(0, 5)).shape == (0, 4, region_px // 4, region_px // 4)


def test_zeros_mean_no_context_and_a_tokens_length_does_not_count() -> None:
    made, maps = head((16, 8), 64)
    token = torch.randn(3, 5)
    with torch.no_grad():
        off = made(maps, torch.zeros(3, 5))
        on = made(maps, token)
        assert torch.allclose(made(maps, 3 * token), on, atol=1e-4)
        assert (on - off).abs().mean() > 1e-2
        for block in made.blocks:
            torch.nn.init.zeros_(block.modulate.weight)
        assert torch.equal(made(maps, token), off)
        # Each region's token works on that region alone.
        mixed = torch.cat([token[:1], torch.zeros(2, 5)])
        assert torch.equal(made(maps, mixed)[1:], off[1:])


def test_logits_lie_where_the_map_says() -> None:
    made, maps = head((16, 8), 64)
    lit = [one.clone() for one in maps]
    lit[0][:, :, 10:12, 2:4] += 5
    with torch.no_grad():
        gap = made(lit, torch.zeros(3, 5)) - made(maps, torch.zeros(3, 5))
    rows, cols = gap.abs().sum((0, 1)).nonzero().T
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (9, 12, 1, 4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    made, maps = head((16, 8), 64)
    with pytest.raises(UsageError, match=r"\(6, 7\) channels, not \(7, 6\)"):
        made(maps[::-1], torch.zeros(3, 5))
    with pytest.raises(UsageError, match=r"context_tokens must be \(3, 5\)"):
        made(maps, torch.zeros(3, 4))
    with pytest.raises(ModelError, match="multiple of 4"):
        head((3,), 30)


@pytest.mark.parametrize(("task", "n_channels"), [("dense", 3), ("detection", 2)])
def test_a_dense_model_scores_regions_and_pixels(
    make_xt: Make, field: Field, task: str, n_channels: int
) -> None:
    model = make_xt(task=task, dense_head=SMALL)
    assert model.slide_head is None
    features, places = field()
    found = model.predict(features, places)
    assert found.logits.shape == found.region_only_logits.shape == (20, 3)
    assert found.context_tokens.shape == (20, 16)
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(image)
        assert whole.shape == (2, n_channels, 16, 24)
        assert model.dense_head is not None
        place = image[1:, :, 32:64, 64:96]
        regions = image.unfold(2, 32, 32).unfold(3, 32, 32)[1].permute(1, 2, 0, 3, 4).flatten(0, 1)
        centres = torch.tensor(
            [[(col + 0.5) * 16, (row + 0.5) * 16] for row in range(2) for col in range(3)]
        )
        tokens = model.predict(model.region_encoder(regions), centres).context_tokens
        part = model.dense_head(model.region_encoder.pyramid(place), tokens[5:])
    assert torch.allclose(whole[1:, :, 8:, 16:], part, atol=1e-5)
    if task == "detection":
        assert whole.sigmoid().max() < 0.5


def test_broken_features_have_no_context_token(make_xt: Make, field: Field) -> None:
    features, places = field()
    features[4] = torch.nan
    found = make_xt(task="dense", dense_head=SMALL).predict(features, places).context_tokens
    assert found[4].isnan().all()
    assert found[torch.arange(20) != 4].isfinite().all()


def test_dense_models_train_from_end_to_end(make_xt: Make) -> None:
    model = make_xt(task="dense", dense_head=SMALL).train()
    assert model.dense_head is not None
    for block in model.dense_head.blocks:
        torch.nn.init.normal_(block.modulate.weight)
    model(torch.randn(1, 3, 64, 64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        wanted = not name.startswith(("region_only_head", "region_head"))
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == wanted, name


@pytest.mark.parametrize("task", ["dense", "detection"])
def test_files_hold_the_decoder(make_xt: Make, tmp_path: Path, task: str) -> None:
    detection = DetectionInfo(peak_radius_um=3.5)
    if task == "detection":
        detection = DetectionInfo(peak_radius_um=3.5, thresholds={"stroma": 0.3})
    model = make_xt(task=task, dense_head=SMALL, detection=detection)
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card.task == task
    assert loaded.card.detection == detection
    assert loaded.card.dense_head.width == 8
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))


def test_cards_of_dense_models_are_checked(make_xt: Make) -> None:
    card = make_xt(task="detection", dense_head=SMALL).card
    assert card.point_kinds == ("tumour", "stroma")
    assert make_xt(task="dense", dense_head=SMALL).card.point_kinds == ()

    def changed(**fields: Any) -> Any:
        return type(card).model_validate({**card.model_dump(), **fields})

    with pytest.raises(ValidationError, match="no multiple of 4"):
        changed(region_px=34, input_px=17)
    with pytest.raises(ValidationError, match="unknown kinds: normal"):
        changed(detection={"thresholds": {"normal": 0.2}})
    with pytest.raises(ValidationError, match="columns n_regions"):
        changed(classes=[{"name": name, "color": "#000000"} for name in ("none", "regions")])
    many = [{"name": f"c{n}", "color": "#000000"} for n in range(255)]
    with pytest.raises(ValidationError, match="at most 254"):
        changed(task="dense", classes=many)
