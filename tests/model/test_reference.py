"""Layout `reference`: the golden numbers, and what must hold without them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.reference import (
    BACKBONE,
    BACKBONE_ARGS,
    REGION_PX,
    reference_model,
    write_checkpoint,
)
from torch import Tensor

from xt_backend.errors import InputNotFoundError, ModelError, UsageError
from xt_backend.model import EncoderInfo, ModelCard, load_model, read_card, save_model
from xt_backend.model.convert import convert_checkpoint
from xt_backend.model.reference import mamba_block, transformer_xl
from xt_backend.model.reference.decoder import grid_sincos

GOLDEN_BACKBONE = "swinv2_tiny_window16_256"
GOLDEN_ARGS: dict[str, Any] = {
    "embed_dim": 24,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
}


def convert(source: Path, target: Path, **options: Any) -> ModelCard:
    return convert_checkpoint(
        source,
        target,
        **{
            "backbone": BACKBONE,
            "backbone_args": BACKBONE_ARGS,
            "region_px": REGION_PX,
            "context": "hyper",
            **options,
        },
    )


def parameters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("param."): value
        for name, value in tensors.items()
        if name.startswith("param.")
    }


# --- golden numbers ----------------------------------------------------------------------------


@torch.no_grad()
def test_mamba_block_gives_the_references_numbers(shared_golden: Path) -> None:
    golden = load_file(shared_golden / "mamba_block.safetensors")
    found = mamba_block(parameters(golden))(golden["input"])
    torch.testing.assert_close(found, golden["output"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_transformer_xl_gives_the_references_numbers(shared_golden: Path) -> None:
    golden = load_file(shared_golden / "transformer_xl.safetensors")
    found = transformer_xl(parameters(golden), memory=16)(golden["input"])
    torch.testing.assert_close(found, golden["output"], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("context", "checkpoint"),
    [("hyper", "xt_hyper.safetensors"), ("mamba", "xt_mamba_reference.ckpt")],
)
def test_a_converted_checkpoint_gives_the_references_numbers(
    shared_golden: Path, tmp_path: Path, context: str, checkpoint: str
) -> None:
    out = tmp_path / "golden.safetensors"
    card = convert(
        shared_golden / checkpoint,
        out,
        backbone=GOLDEN_BACKBONE,
        backbone_args=GOLDEN_ARGS,
        context=context,
    )
    assert (len(card.classes), card.context.dim, card.context.layers) == (5, 256, 2)
    golden = load_file(shared_golden / f"xt_{context}_io.safetensors")
    found = load_model(out)(golden["image"])
    torch.testing.assert_close(found, golden["logits"], atol=1e-4, rtol=0)


# --- the parts, against formulas written another way -------------------------------------------


def mamba_by_hand(state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """One token, one channel at a time, float64."""
    state = {name: value.double() for name, value in state.items()}
    inner, size = state["A_log"].shape
    rank = state["dt_proj.weight"].shape[1]
    out = torch.zeros_like(tokens)
    for b, sequence in enumerate(tokens):
        both = sequence @ state["in_proj.weight"].T
        u, z = both[:, :inner], both[:, inner:]
        taps = state["conv1d.weight"][:, 0]
        mixed = torch.zeros_like(u)
        for t in range(len(u)):
            for k in range(taps.shape[1]):
                if t - k >= 0:
                    mixed[t] += taps[:, taps.shape[1] - 1 - k] * u[t - k]
        mixed = mixed + state["conv1d.bias"]
        mixed = mixed * torch.sigmoid(mixed)
        memory = torch.zeros(inner, size, dtype=torch.float64)
        for t in range(len(u)):
            row = state["x_proj.weight"] @ mixed[t]
            dt = state["dt_proj.weight"] @ row[:rank] + state["dt_proj.bias"]
            dt = torch.log1p(torch.exp(dt))
            write, read = row[rank : rank + size], row[rank + size :]
            for c in range(inner):
                decay = torch.exp(-torch.exp(state["A_log"][c]) * dt[c])
                memory[c] = decay * memory[c] + dt[c] * mixed[t, c] * write
            y = memory @ read + state["D"] * mixed[t]
            out[b, t] = state["out_proj.weight"] @ (y * z[t] * torch.sigmoid(z[t]))
    return out


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 7])
def test_mamba_block_is_its_formula(length: int) -> None:
    state = {
        name: 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(index))
        for index, (name, shape) in enumerate(
            {
                "A_log": (12, 3),
                "D": (12,),
                "conv1d.weight": (12, 1, 4),
                "conv1d.bias": (12,),
                "in_proj.weight": (24, 6),
                "x_proj.weight": (8, 12),
                "dt_proj.weight": (12, 2),
                "dt_proj.bias": (12,),
                "out_proj.weight": (6, 12),
            }.items()
        )
    }
    tokens = torch.randn(2, length, 6, generator=torch.Generator().manual_seed(99)).double()
    found = mamba_block(state).double()(tokens)
    torch.testing.assert_close(found, mamba_by_hand(state, tokens), atol=1e-9, rtol=0)


def small_xl() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "word_emb.weight": (8, 5),
        "word_emb.bias": (8,),
        "r_w_bias": (2, 4),
        "r_r_bias": (2, 4),
    }
    for layer in range(2):
        for part, shape in {
            "dec_attn.qkv_net.weight": (24, 8),
            "dec_attn.r_net.weight": (8, 8),
            "dec_attn.o_net.weight": (8, 8),
            "dec_attn.layer_norm.weight": (8,),
            "dec_attn.layer_norm.bias": (8,),
            "pos_ff.CoreNet.0.weight": (16, 8),
            "pos_ff.CoreNet.0.bias": (16,),
            "pos_ff.CoreNet.3.weight": (8, 16),
            "pos_ff.CoreNet.3.bias": (8,),
            "pos_ff.layer_norm.weight": (8,),
            "pos_ff.layer_norm.bias": (8,),
        }.items():
            shapes[f"layers.{layer}.{part}"] = shape
    generator = torch.Generator().manual_seed(4)
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**state, "pos_emb.inv_freq": 10_000.0 ** -(torch.arange(0, 8, 2) / 8)}


@torch.no_grad()
def test_transformer_xl_reaches_one_memory_back_and_never_forward() -> None:
    model = transformer_xl(small_xl(), memory=4)
    sequence = torch.randn(12, 1, 5, generator=torch.Generator().manual_seed(0))
    before = model(sequence)
    changed = sequence.clone()
    changed[5] += 1
    moved = (model(changed) - before).abs().amax(dim=(1, 2)) > 1e-6
    # Two layers: the second sees what the first kept, so the reach is segment by segment.
    assert not moved[:5].any()
    assert moved[5:].all()
    unseen = sequence.clone()
    unseen[11] += 1
    assert (model(unseen) - before).abs().amax(dim=(1, 2))[:11].max() < 1e-6


@torch.no_grad()
def test_transformer_xl_scores_by_distance_not_by_place() -> None:
    """With memory as long as all that went before, one long segment gives the same."""
    state = small_xl()
    sequence = torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(1))
    whole = transformer_xl(state, memory=8)(sequence)
    halves = transformer_xl(state, memory=4)(sequence)
    torch.testing.assert_close(halves, whole, atol=1e-4, rtol=0)


def test_positions_have_columns_first() -> None:
    places = grid_sincos(2, 3, 8)
    assert places.shape == (6, 8)
    x, y, slow = 2.0, 1.0, 0.01
    expected = [
        math.sin(x), math.sin(x * slow), math.cos(x), math.cos(x * slow),
        math.sin(y), math.sin(y * slow), math.cos(y), math.cos(y * slow),
    ]  # fmt: skip
    torch.testing.assert_close(places[5], torch.tensor(expected))


def test_weights_of_something_else_are_refused_with_their_names() -> None:
    with pytest.raises(ModelError, match="A_log"):
        mamba_block({"weight": torch.zeros(2)})
    state = small_xl()
    del state["layers.1.pos_ff.CoreNet.3.bias"]
    with pytest.raises(ModelError, match=r"missing: layers\.1\.pos_ff\.CoreNet\.3\.bias"):
        transformer_xl(state, 4)
    with pytest.raises(ModelError, match=r"extra: more"):
        transformer_xl({**small_xl(), "more": torch.zeros(1)}, 4)
    with pytest.raises(ModelError, match="memory of 0"):
        transformer_xl(small_xl(), 0)
    with pytest.raises(UsageError, match=r"\(length, B, 5\)"):
        transformer_xl(small_xl(), 4)(torch.zeros(3, 1, 6))


# --- the whole model ---------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("context", ["hyper", "mamba"])
def test_saved_and_loaded_it_is_the_same_for_any_rectangle(tmp_path: Path, context: str) -> None:
    model = reference_model(context)
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    images = torch.randn(2, 3, 64, 192, generator=torch.Generator().manual_seed(0))
    found = loaded(images)
    assert found.shape == (2, 3)
    assert torch.equal(found, model(images))
    # It is no square in disguise, and places matter.
    assert not torch.allclose(found, loaded(images.flip(3)), atol=1e-5)
    with pytest.raises(UsageError, match="multiples of 64"):
        loaded(images[:, :, :60])


@torch.no_grad()
@pytest.mark.parametrize("context", ["hyper", "mamba"])
def test_scoring_a_crop_is_the_forward_on_its_pixels(context: str) -> None:
    model = reference_model(context)
    pixels = torch.randint(
        0, 256, (11, 3, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    features = model.region_encoder(pixels)
    assert features.shape == (11, 16, 64)
    kept = model.reduce(features)
    expected = model(model.region_encoder.normalise(pixels))
    torch.testing.assert_close(kept[:, 0], expected, atol=1e-5, rtol=0)
    prediction = model.predict_reduced(kept, torch.zeros(11, 2))
    assert torch.equal(prediction.logits, kept[:, 0])
    assert prediction.region_only_logits.isnan().all()
    # The same bits in any company.
    assert torch.equal(model.reduce(features[3:4]), kept[3:4])


@torch.no_grad()
def test_the_backbone_is_told_from_the_weights_beside_it() -> None:
    """sha256 and names of the encoder do not depend on the size of crops."""
    small, large = reference_model(), reference_model(crop_px=256)
    assert small.region_encoder.refresh_sha256().sha256 == (
        large.region_encoder.refresh_sha256().sha256
    )
    assert large.region_encoder.tokens_per_region == 8
    names = set(small.state_dict())
    assert {"decoder.cls_token", "encoder.model.patch_embed.proj.weight"} <= names
    assert not any("region_encoder" in name for name in names)


# --- conversion --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_conversion_reads_sizes_and_classes_from_the_weights(tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / f"source{suffix}", tmp_path / "mine.safetensors"
    model = write_checkpoint(source, "mamba")
    card = convert(
        source, out, context="mamba", classes=("x", "y", "z"), model_mpp=0.5, crop_px=192
    )
    assert (card.name, card.layout, card.task) == ("mine", "reference", "region")
    assert card.class_names == ("x", "y", "z")
    assert card.context.options == {"inner": 256, "state": 4, "conv": 4, "step_rank": 8}
    assert (card.crop_px, card.scored_px, card.model_mpp) == (192, 192, 0.5)
    assert card.region_encoder.revision.startswith("sha256:")
    assert read_card(out) == card
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_model(out)(images), model(images))


def test_arguments_that_follow_from_the_rest_may_be_said(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "source.safetensors")
    card = convert(
        tmp_path / "source.safetensors",
        tmp_path / "out.safetensors",
        backbone_args={**BACKBONE_ARGS, "img_size": REGION_PX, "features_only": True},
    )
    assert card.region_encoder.backbone_args == BACKBONE_ARGS


@torch.no_grad()
@pytest.mark.parametrize(
    ("backbone", "args"),
    [
        ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}),
        ("hiera_tiny_224", {"embed_dim": 8, "num_heads": 1, "stages": [1, 1, 1, 1]}),
        ("swin_tiny_patch4_window7_224", {k: v for k, v in BACKBONE_ARGS.items() if "w" not in k}),
    ],
)
def test_the_references_other_backbones_work(backbone: str, args: dict[str, Any]) -> None:
    model = reference_model(region_encoder=EncoderInfo(name=backbone, backbone_args=args))
    assert (model.encoder.side, model.encoder.dim) == (2, model.encoder.feature_info[-1]["num_chs"])
    images = torch.randn(1, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    found = model(images)
    assert found.shape == (1, 3)
    # Both regions count.
    for first in (0, 64):
        changed = images.clone()
        changed[:, :, first : first + 64] += 1
        assert not torch.allclose(model(changed), found)


@torch.no_grad()
def test_tables_of_older_timm_versions_are_left_out(tmp_path: Path) -> None:
    model = reference_model()
    state = dict(model.state_dict())
    state["encoder.model.layers_0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    half = {name: value.half() for name, value in state.items()}
    save_file(half, tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", tmp_path / "new.safetensors")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = load_model(tmp_path / "new.safetensors")(images)
    torch.testing.assert_close(found, model(images), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "mamba"}, "holds hyper layers"),
        ({"context": "xl"}, "no context encoder 'xl'"),
        ({"classes": ("a", "b")}, "2 names were given for the 3 classes"),
        ({"classes": ("a", "a", "b")}, "class names must differ"),
        ({"crop_px": 100}, "whole regions"),
        ({"model_mpp": 9.0}, "model_mpp"),
        ({"backbone_args": {**BACKBONE_ARGS, "img_size": 128}}, "img_size"),
        ({"backbone_args": {**BACKBONE_ARGS, "embed_dim": 16}}, "mis-shaped: encoder"),
        ({"backbone_args": {**BACKBONE_ARGS, "depths": [1, 1, 2, 1]}}, "missing: encoder"),
        ({"backbone": "swinv2_tinny_window8_256"}, "Did you mean"),
        ({"region_px": 0}, "inputs of 0 px"),
        ({"backbone": "convnext_atto", "backbone_args": {}, "region_px": 8}, "inputs of 8 px"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    write_checkpoint(source)
    with pytest.raises(ModelError, match=message):
        convert(source, out, **options)
    assert not out.exists()


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "gotcha")


def test_a_checkpoint_that_is_more_than_tensors_is_refused_and_never_runs(tmp_path: Path) -> None:
    source, marker = tmp_path / "evil.ckpt", tmp_path / "marker"
    write_checkpoint(source, args=Evil(marker))
    with pytest.raises(ModelError, match=r"cannot be read as plain weights \(.*Unpickl"):
        convert(source, tmp_path / "out.safetensors")
    assert not marker.exists()
    with pytest.raises(ModelError, match="models convert"):
        load_model(source)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"no checkpoint gone\.ckpt"):
        convert(tmp_path / "gone.ckpt", tmp_path / "out.safetensors")
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="no checkpoint of the xT reference"):
        convert(tmp_path / "other.safetensors", tmp_path / "out.safetensors")
    save_model(reference_model(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="is a whole model"):
        convert(tmp_path / "model.safetensors", tmp_path / "out.safetensors")
    write_checkpoint(tmp_path / "good.safetensors")
    with pytest.raises(ModelError, match=r"does not end in \.safetensors"):
        convert(tmp_path / "good.safetensors", tmp_path / "out.pt")


# --- the card ----------------------------------------------------------------------------------


def test_a_pixel_size_is_known_given_or_missing() -> None:
    bare, stated = reference_model().card, reference_model(model_mpp=0.5).card
    with pytest.raises(ModelError, match="states no pixel size"):
        bare.mpp()
    assert bare.mpp(0.25) == 0.25
    assert stated.mpp() == 0.5
    assert stated.mpp(0.25) == 0.25
    with pytest.raises(ModelError, match="out of range"):
        bare.mpp(50.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_px": None},
        {"crop_px": 96},
        {"input_px": 32},
        {"task": "slide"},
        {"layout": "napari-xt"},
        {"layout": "napari-xt", "crop_px": None},
    ],
)
def test_contradictions_in_a_card_are_refused(changes: dict[str, Any]) -> None:
    values = {**reference_model().card.model_dump(), **changes}
    with pytest.raises(ValueError, match="layout"):
        ModelCard(**values)
