from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from xt_backend.errors import ModelError, UsageError
from xt_backend.model import (
    REGION_ENCODERS,
    RegionEncoder,
    build_region_encoder,
    list_region_encoders,
    state_sha256,
)

SWIN: dict[str, Any] = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
SMALL_VIT: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3}

# name, region, input, arguments, side of the last map of one input, D
BACKBONES: list[tuple[str, int, int, dict[str, Any], int, int]] = [
    ("tf_efficientnet_lite0", 64, 32, {}, 1, 1280),
    ("swinv2_tiny_window8_256", 128, 64, SWIN, 2, 192),
    ("hiera_tiny_224", 64, 64, {"embed_dim": 16}, 2, 128),
    ("convnext_atto", 128, 64, {}, 2, 320),
    ("vit_tiny_patch16_224", 64, 32, SMALL_VIT, 2, 48),
    ("vit_small_patch14_reg4_dinov2", 56, 28, SMALL_VIT, 2, 48),
    ("resnet10t", 64, 64, {}, 2, 512),
]


def make(name: str, region: int, size: int, args: dict[str, Any], k: int = 1) -> RegionEncoder:
    return build_region_encoder(
        name,
        region_px=region,
        input_px=size,
        tokens_per_region=k,
        weights="random",
        backbone_args=args,
    )


def pixels(region: int, n: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(region)
    return torch.randint(0, 256, (n, 3, region, region), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "region", "size", "args", "side", "dim"), BACKBONES, ids=[b[0] for b in BACKBONES]
)
def test_stitching_normalising_and_pooling_equal_doing_it_by_hand(
    name: str, region: int, size: int, args: dict[str, Any], side: int, dim: int
) -> None:
    m, k = region // size, min(2, region // size * side)
    encoder = make(name, region, size, args, k)
    assert encoder.dim == dim
    images = pixels(region)
    config = timm.get_pretrained_cfg(name)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (config.mean, config.std))
    normal = (images.float() / 255 - mean) / std
    stitched = torch.zeros(2, dim, m * side, m * side)
    with torch.no_grad():
        found = encoder(images)
        for row in range(m):
            for col in range(m):
                part = normal[:, :, row * size : (row + 1) * size, col * size : (col + 1) * size]
                out = encoder.backbone.forward_features(part)
                if name.startswith("vit"):
                    out = out[:, -side * side :].transpose(1, 2).reshape(2, dim, side, side)
                elif name.startswith("swin"):
                    out = out.permute(0, 3, 1, 2)
                elif name.startswith("hiera"):
                    out = encoder.backbone.forward_intermediates(part, intermediates_only=True)[-1]
                place = stitched[:, :, row * side : (row + 1) * side, col * side : (col + 1) * side]
                place.copy_(out)
        cells = stitched.unflatten(2, (k, -1)).unflatten(4, (k, -1)).mean(dim=(3, 5))
        expected = cells.flatten(2).transpose(1, 2)
        assert found.shape == (2, k * k, dim)
        assert torch.allclose(found, expected, atol=2e-4, rtol=1e-4)
        # Pixels that were normalised elsewhere give the same.
        assert torch.allclose(encoder(normal), found, atol=2e-4, rtol=1e-4)


def test_hiera_tokens_are_put_back_in_place() -> None:
    """A bright patch shows where it is; Hiera itself keeps its tokens in another order."""
    encoder = make("hiera_tiny_224", 128, 128, {"embed_dim": 16}, 4)
    dark = torch.zeros(1, 3, 128, 128, dtype=torch.uint8)
    with torch.no_grad():
        base = encoder(dark)[0]
        hit = []
        for row in range(4):
            for col in range(4):
                lit = dark.clone()
                lit[:, :, row * 32 : row * 32 + 32, col * 32 : col * 32 + 32] = 255
                hit.append(int((encoder(lit)[0] - base).abs().sum(1).argmax()))
    assert sum(place == n for n, place in enumerate(hit)) >= 12


def test_tokens_are_in_raster_order(toy: str) -> None:
    encoder = build_region_encoder(
        toy, region_px=32, input_px=16, tokens_per_region=4, weights="random"
    )
    dark = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    lit = dark.clone()
    lit[:, :, 8:16, 24:32] = 255  # row 1, column 3
    with torch.no_grad():
        changed = (encoder(lit) - encoder(dark))[0].abs().sum(1) > 0
    assert changed.nonzero().tolist() == [[7]]


def test_mean_and_std_are_not_in_the_state_but_move_with_the_module(toy: str) -> None:
    encoder = build_region_encoder(toy, region_px=32, weights="random", mean=(0.1, 0.2, 0.3))
    assert not {"mean", "std"} & set(encoder.state_dict())
    assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert encoder.double().mean.dtype == torch.float64


def test_lower_precision_weights_take_uint8(toy: str) -> None:
    encoder = build_region_encoder(toy, region_px=32, weights="random")
    with torch.no_grad():
        full = encoder(pixels(32))
        low = encoder.to(torch.bfloat16)(pixels(32))
    assert low.dtype == torch.bfloat16
    assert (low.float() - full).abs().max() < 0.05


def test_empty_batch(toy: str) -> None:
    encoder = build_region_encoder(toy, region_px=32, tokens_per_region=2, weights="random")
    assert encoder(pixels(32)[:0]).shape == (0, 4, 12)


@pytest.mark.parametrize(
    ("name", "region", "expected"),
    [
        ("tf_efficientnet_lite0", 448, 224),
        ("tf_efficientnet_lite0", 96, 96),
        ("swinv2_tiny_window8_256", 512, 256),
        ("swinv2_tiny_window8_256", 64, 64),
    ],
)
def test_default_input_size(name: str, region: int, expected: int) -> None:
    args = SWIN if name.startswith("swin") else {}
    encoder = build_region_encoder(name, region_px=region, weights="random", backbone_args=args)
    assert encoder.input_px == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tf_efficientnet_lite0", {"region_px": 100, "input_px": 64}, "100 px is not a multiple"),
        ("tf_efficientnet_lite0", {"region_px": 64, "input_px": 0}, "not a multiple"),
        ("hiera_tiny_224", {"region_px": 100}, "for inputs of 100 px .* 224 px is its own size"),
        ("vit_tiny_patch16_224", {"region_px": 100}, "no multiple of the 16 px"),
        ("convnext_atto", {"region_px": 100}, "no multiple of the 32 px"),
        ("convnext_atto", {"region_px": 4}, "for inputs of 4 px"),
        ("coat_tiny", {"region_px": 224}, "no single feature map"),
        ("convnext_atto", {"region_px": 64, "tokens_per_region": 3}, "from a map of 2 x 2"),
        ("convnext_atto", {"region_px": 64, "tokens_per_region": 0}, "Use tokens_per_region 1"),
        ("swinv2_tiny_windo8_256", {"region_px": 64}, "Did you mean swinv2_tiny_window8_256"),
        ("what", {"region_px": 64}, "timm.list_models"),
        ("convnext_atto.none", {"region_px": 64}, "no weights tagged 'none'"),
        ("hf-hub:nobody", {"region_px": 64}, "hf-hub:owner/name"),
        (
            "convnext_atto",
            {"region_px": 64, "backbone_args": {"checkpoint_path": "x.pth"}},
            "must not hold checkpoint_path",
        ),
        ("convnext_atto", {"region_px": 64, "backbone_args": {"dims": [10**9]}}, "out of range"),
        ("convnext_atto", {"region_px": 64, "backbone_args": {"wings": 2}}, "wings"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        build_region_encoder(name, weights="random", **options)


def test_regions_of_another_size_are_refused(toy: str) -> None:
    encoder = build_region_encoder(toy, region_px=32, weights="random")
    for shape in ((1, 3, 16, 16), (1, 32, 32, 3), (3, 32, 32)):
        with pytest.raises(UsageError, match=r"regions must be \(B, 3, 32, 32\)"):
            encoder(torch.zeros(shape))


def test_registry_lists_timm_and_registered_names(toy: str) -> None:
    names = list_region_encoders()
    assert {toy, "swinv2_tiny_window8_256", "hiera_tiny_224", "convnext_atto"} <= set(names)
    assert list(names) == sorted(names)
    with pytest.raises(ModelError, match="registered twice"):
        REGION_ENCODERS.register(toy)(REGION_ENCODERS.get(toy))


def test_numerics_tell_encoders_apart(toy: str) -> None:
    base: dict[str, Any] = {"region_px": 32, "weights": "random"}
    first = build_region_encoder(toy, **base).numerics()
    assert first == build_region_encoder(toy, **base).numerics()
    for change in (
        {"seed": 1},
        {"input_px": 16},
        {"tokens_per_region": 2},
        {"mean": (0.1, 0.1, 0.1)},
        {"backbone_args": {"dim": 5}},
    ):
        assert build_region_encoder(toy, **{**base, **change}).numerics() != first


def test_rounding_to_half_keeps_the_hash_true(toy: str) -> None:
    encoder = build_region_encoder(toy, region_px=32, weights="random")
    before = encoder.info.sha256
    encoder.round_to_half()
    assert encoder.info.sha256 == state_sha256(encoder) != before
    weight = encoder.backbone.patch.weight
    assert torch.equal(weight.half().float(), weight)
