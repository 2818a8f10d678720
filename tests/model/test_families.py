"""Every family of region encoders at several sizes, and class tokens of plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from xt_backend.errors import ModelError
from xt_backend.model import RegionEncoder, build_region_encoder, load_model, save_model
from xt_backend.model.state import fill_random

SWIN: dict[str, Any] = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
HIERA: dict[str, Any] = {"embed_dim": 8, "num_heads": 1, "stages": [1, 1, 1, 1]}
CONVNEXT: dict[str, Any] = {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
VIT: dict[str, Any] = {"embed_dim": 16, "depth": 1, "num_heads": 2}

# name, arguments, px under one place of its last map, sizes that are not its own
FAMILIES: list[tuple[str, dict[str, Any], int, tuple[int, ...]]] = [
    ("swinv2_tiny_window8_256", SWIN, 32, (64, 96, 160)),
    ("swinv2_tiny_window16_256", SWIN, 32, (96, 192)),
    ("swin_tiny_patch4_window7_224", SWIN, 32, (64, 128)),
    ("hiera_tiny_224", HIERA, 32, (64, 96, 160)),
    ("convnext_tiny", CONVNEXT, 32, (64, 96)),
    ("convnextv2_atto", CONVNEXT, 32, (64,)),
    ("vit_tiny_patch16_224", VIT, 16, (64, 96)),
    ("vit_small_patch14_reg4_dinov2", VIT, 14, (56, 98)),
    ("vit_small_patch16_dinov3", VIT, 16, (64, 96)),
    ("eva02_tiny_patch14_224", VIT, 14, (56, 98)),
]
NAMES = [family[0] for family in FAMILIES]
TOKENED = [family for family in FAMILIES if family[0].startswith(("vit", "eva"))]


def pixels(side: int, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)


def build(name: str, args: dict[str, Any], size: int, m: int = 1, **options: Any) -> RegionEncoder:
    options = {"weights": "random", **options}
    return build_region_encoder(
        name, region_px=m * size, input_px=size, backbone_args=args, **options
    )


@torch.no_grad()
@pytest.mark.parametrize(("name", "args", "reduction", "sizes"), FAMILIES, ids=NAMES)
def test_each_size_gives_the_whole_map_and_every_corner_counts(
    name: str, args: dict[str, Any], reduction: int, sizes: tuple[int, ...]
) -> None:
    for size in sizes:
        side = size // reduction
        encoder = build(name, args, size, tokens_per_region=side)
        image = pixels(size, 1)
        found = encoder(image)
        assert found.shape == (1, side * side, encoder.dim)
        assert found.isfinite().all()
        for y in (0, size - 1):
            for x in (0, size - 1):
                changed = image.clone()
                changed[:, :, y, x] = 255 - changed[:, :, y, x]
                assert not torch.equal(encoder(changed), found), (size, x, y)


# timm resizes the tables of the first Swin with calls that torch has deprecated.
RESIZABLE = [family for family in FAMILIES if family[0] != "swin_tiny_patch4_window7_224"]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "args", "reduction", "sizes"), RESIZABLE, ids=[family[0] for family in RESIZABLE]
)
def test_weights_of_the_own_size_serve_the_others(
    tmp_path: Path, name: str, args: dict[str, Any], reduction: int, sizes: tuple[int, ...]
) -> None:
    """Tables of positions are resized as timm does; all other weights are taken as they are."""
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in args.items()}
    net = timm.create_model(name, num_classes=7, **plain)
    fill_random(net, 1)
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    native = int(timm.get_pretrained_cfg(name).input_size[-1])
    own = build(name, args, native, weights=path)
    images = pixels(native, 1)
    net.eval()
    expected = net.forward_features(own.normalise(images))
    assert torch.equal(own.backbone.forward_features(own.normalise(images)), expected)
    for size in sizes[:2]:
        other = build(name, args, size, weights=path)
        assert other(pixels(size)).isfinite().all()
        mine, theirs = other.backbone.state_dict(), net.state_dict()
        same = [key for key in mine if mine[key].shape == theirs[key].shape]
        assert len(same) > 0.8 * len(mine)
        changed = [key for key in same if not torch.equal(mine[key], theirs[key])]
        assert all("pos" in key for key in changed), changed


# --- class tokens ------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "args", "reduction", "sizes"), TOKENED, ids=[family[0] for family in TOKENED]
)
def test_class_tokens_are_the_backbones_own(
    name: str, args: dict[str, Any], reduction: int, sizes: tuple[int, ...]
) -> None:
    size, m = sizes[0], 2
    images = pixels(m * size)
    maps = build(name, args, size, m)
    tokens = maps.backbone.forward_features(maps.normalise(images[:, :, :size, :size]))
    prefix = tokens.shape[1] - (size // reduction) ** 2
    assert prefix == maps.backbone.num_prefix_tokens
    alone = build(name, args, size, m, pooling="cls", tokens_per_region=m)
    assert alone.dim == maps.dim
    torch.testing.assert_close(alone(images)[:, 0], tokens[:, 0], atol=1e-5, rtol=1e-4)
    both = build(name, args, size, m, pooling="cls+mean", tokens_per_region=m)
    assert both.dim == 2 * maps.dim
    expected = torch.cat([tokens[:, 0], tokens[:, prefix:].mean(dim=1)], dim=-1)
    torch.testing.assert_close(both(images)[:, 0], expected, atol=1e-5, rtol=1e-4)
    # One token for the region is the mean over its sub-regions.
    one = build(name, args, size, m, pooling="cls+mean")(images)
    torch.testing.assert_close(one[:, 0], both(images).mean(dim=1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "hiera_tiny_224", "convnext_tiny"])
@pytest.mark.parametrize("pooling", ["cls", "cls+mean"])
def test_without_a_class_token_it_is_refused(name: str, pooling: str) -> None:
    args = next(family[1] for family in FAMILIES if family[0] == name)
    with pytest.raises(ModelError, match=rf"{name} has no class token.*Use pooling map"):
        build(name, args, 64, pooling=pooling)


def test_more_tokens_than_class_tokens_are_refused() -> None:
    with pytest.raises(ModelError, match="from a map of 2 x 2"):
        build("vit_tiny_patch16_224", VIT, 64, 2, pooling="cls", tokens_per_region=3)
    with pytest.raises(ModelError, match="'map', 'cls' or 'cls\\+mean'"):
        build("vit_tiny_patch16_224", VIT, 64, pooling="mean")


def test_pooling_is_in_numerics_and_survives_the_model_file(tmp_path: Path, make_xt: Any) -> None:
    from xt_backend.model import XT

    encoder = build("vit_tiny_patch16_224", VIT, 64, pooling="cls+mean")
    plain = build("vit_tiny_patch16_224", VIT, 64)
    assert encoder.info.sha256 == plain.info.sha256
    assert encoder.numerics()["pooling"] == "cls+mean"
    assert encoder.numerics() != plain.numerics()
    for embedded in (True, False):
        info = encoder.info.model_copy(update={"embedded": embedded})
        fields = {"region_px": 64, "input_px": 64, "region_encoder": info}
        card = make_xt().card.model_copy(update=fields)
        save_model(XT(card, encoder), tmp_path / "model.safetensors")
        loaded = load_model(tmp_path / "model.safetensors")
        assert loaded.region_encoder.info.pooling == "cls+mean"
        with torch.no_grad():
            assert torch.equal(loaded.region_encoder(pixels(64)), encoder(pixels(64)))
