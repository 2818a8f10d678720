from __future__ import annotations

import errno
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from xt_backend import publishing
from xt_backend.errors import InputNotFoundError, ModelError, NoSpaceError, OutputError
from xt_backend.model import (
    XT,
    ContextInfo,
    build_region_encoder,
    file_sha256,
    load_model,
    read_card,
    save_model,
)
from xt_backend.model.card import CARD_KEY

Make = Callable[..., XT]
CONVERT = "napari-xt models convert"


@pytest.fixture
def saved(make_xt: Make, tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save_model(make_xt(), path)
    return path


def rewrite(path: Path, tensors: dict[str, Any] | None = None, card: str | None = None) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if card is not None:
        metadata[CARD_KEY] = card
    save_file(tensors if tensors is not None else load_file(path), path, metadata)


@pytest.mark.parametrize("kind", ["none", "attention", "mamba2", "transformer-xl"])
@pytest.mark.parametrize("task", ["region", "slide"])
def test_round_trip(make_xt: Make, tmp_path: Path, kind: str, task: str) -> None:
    head = {"slide_head": {"kind": "attention-mil"}}
    model = make_xt(kind=kind, task=task, **head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.01)
    card = save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.card == card == model.card == read_card(tmp_path / "m.safetensors")
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))


def test_the_card_holds_every_option_of_the_context(make_xt: Make, tmp_path: Path) -> None:
    model = make_xt(kind="mamba2", options={"order": "alternate"})
    card = save_model(model, tmp_path / "m.safetensors")
    assert card.context.options == {
        "state": 16, "expand": 2, "head_dim": None, "conv": 4, "chunk": 64, "segment": 1024,
        "dropout": 0.0, "order": "alternate", "bidirectional": True, "positions": "sincos",
        "wavelengths_um": [256.0, 65536.0],
    }  # fmt: skip


def test_same_model_same_bytes(make_xt: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(make_xt(), tmp_path / f"{name}.safetensors")
    first, second = ((tmp_path / f"{n}.safetensors").read_bytes() for n in "ab")
    assert first == second


def test_no_path_of_this_machine_in_the_file(saved: Path) -> None:
    assert str(saved.parent).encode() not in saved.read_bytes()


def test_half_storage_is_lossless_and_halves_the_encoder(make_xt: Make, tmp_path: Path) -> None:
    args = {"depths": [1, 1, 1, 1], "dims": [16, 16, 32, 64]}
    encoder = build_region_encoder(
        "convnext_atto", region_px=32, weights="random", input_px=32, backbone_args=args
    )
    card = make_xt().card.model_copy(update={"region_encoder": encoder.info, "input_px": 32})
    model = XT(card, encoder)
    path = tmp_path / "half.safetensors"
    save_model(model, path)
    full = path.stat().st_size
    encoder.round_to_half()
    save_model(model, path)
    n_values = sum(p.numel() for p in encoder.parameters() if p.ndim >= 2)
    assert full - path.stat().st_size >= 2 * n_values
    loaded = load_model(path)
    for name, value in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[name], value)


def test_random_encoder_need_not_be_embedded(make_xt: Make, tmp_path: Path) -> None:
    model = make_xt()
    info = model.card.region_encoder.model_copy(update={"embedded": False})
    model.card = model.card.model_copy(update={"region_encoder": info})
    path = tmp_path / "light.safetensors"
    save_model(model, path)
    assert not any(name.startswith("region_encoder.") for name in load_file(path))
    loaded = load_model(path)
    assert torch.equal(
        loaded.region_encoder.backbone.patch.weight, model.region_encoder.backbone.patch.weight
    )
    with torch.no_grad():
        model.region_encoder.backbone.patch.weight.add_(1.0)
    save_model(model, path)
    with pytest.raises(ModelError, match=r"region encoder .* sha256"):
        load_model(path)
    text = read_card(path).to_json()
    rewrite(path, card=text.replace('"random:0"', '"random:x"'))
    with pytest.raises(ModelError, match="lacks its region encoder"):
        load_model(path)
    model.region_encoder.refresh_sha256(source="trained")
    with pytest.raises(ModelError, match="Embed it"):
        save_model(model, path)


# --- refused -----------------------------------------------------------------------------------


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "gotcha")


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.ckpt", "evil.safetensors", "evil"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_not_opened(tmp_path: Path, name: str, zipped: bool) -> None:
    path, marker = tmp_path / name, tmp_path / "marker"
    if zipped:
        torch.save(Evil(marker), path)
    else:
        path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(ModelError, match=CONVERT):
        load_model(path)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pt2", ".jit", ".package"])
def test_archives_of_torch_are_not_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"archive{suffix}"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"cos\nsystem\n(S'touch marker'\ntR.")
    with pytest.raises(ModelError, match=CONVERT):
        load_model(path)


def test_other_files_are_refused_each_with_its_cause(tmp_path: Path, saved: Path) -> None:
    path = tmp_path / "bad.safetensors"
    content = saved.read_bytes()
    header = int.from_bytes(content[:8], "little")
    for data, message in (
        (b"", "is empty"),
        (b"hello", "not a safetensors file"),
        (b"A text of some length, as people write them", "not a safetensors file"),
        (content[:-1], "is truncated"),
        (content[: header // 2], "is truncated"),
        (content + b"\0", "belong to no tensor"),
        (content[:8] + b"{" * header + content[8 + header :], "damaged header"),
        (content[:100].replace(b"{", b"[") + content[100:], "not a safetensors file"),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=message):
            load_model(path)
    with pytest.raises(ModelError, match="is a folder"):
        load_model(f"{tmp_path}{os.sep}")
    with pytest.raises(InputNotFoundError, match="does not exist"):
        load_model(tmp_path / "no.safetensors")


def test_headers_that_lie_are_refused(tmp_path: Path, saved: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "bad.safetensors"
    for old, new in ((b'"F32"', b'"X32"'), (b'"F32"', b'"F64"'), (b'"shape"', b'"shade"')):
        path.write_bytes(content.replace(old, new, 1))
        with pytest.raises(ModelError, match="damaged header"):
            load_model(path)


def test_tensors_must_be_exactly_those_of_the_model(saved: Path) -> None:
    good = load_file(saved)
    bad = dict(good)
    del bad["reduce.mean"]
    bad["wings"] = torch.zeros(2)
    bad["region_head.out.bias"] = torch.zeros(7)
    bad["context.norm.weight"] = good["context.norm.weight"].half()
    rewrite(saved, bad)
    with pytest.raises(ModelError) as caught:
        load_model(saved)
    text = str(caught.value)
    assert "missing: reduce.mean;" in text
    assert "extra: wings;" in text
    assert "region_head.out.bias F32 [7] instead of F32 [3]" in text
    assert "context.norm.weight F16 [16] instead of F32 [16]" in text


@pytest.mark.parametrize("tensor", ["reduce.mean", "region_encoder.backbone.patch.weight"])
def test_a_changed_value_is_noticed(saved: Path, tensor: str) -> None:
    tensors = load_file(saved)
    tensors[tensor].view(-1)[0] += 1e-3
    rewrite(saved, tensors)
    with pytest.raises(ModelError, match="do not have the sha256"):
        load_model(saved)


def test_every_flipped_bit_of_a_tensor_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    rng = np.random.default_rng(0)
    data = 8 + int.from_bytes(content[:8], "little")
    for place in [*range(8), *rng.integers(data, len(content), 30)]:
        bit = 1 << int(rng.integers(8))
        content[place] ^= bit
        saved.write_bytes(bytes(content))
        with pytest.raises(ModelError):
            load_model(saved)
        content[place] ^= bit


def test_wrong_pin_is_refused(saved: Path) -> None:
    pin = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert file_sha256(saved) == pin
    assert load_model(saved, sha256=pin.upper()).card.name == "toy"
    with pytest.raises(ModelError, match=f"has sha256 {pin}, wanted was {'0' * 64}"):
        load_model(saved, sha256="0" * 64)


def test_cards_that_cannot_be_used(saved: Path, tmp_path: Path) -> None:
    text = read_card(saved).to_json()
    for old, new, message in (
        ('"format_version":1', '"format_version":2', "newer version of napari-xt.*Upgrade"),
        ('"format_version":1', '"format_version":0', "format_version"),
        ('"layout":"napari-xt"', '"layout":"mystery"', "layout"),
        ('"kind":"attention"', '"kind":"lstm"', "no context encoder 'lstm'"),
        ('"toy_patches"', '"hf-hub:evil/repo"', "region_encoder.name"),
        ('"toy_patches"', '"no_such_net"', "no region encoder 'no_such_net'"),
        ('"name":"toy"', '"nickname":"toy"', "name"),
        ("{", "[{", "no JSON"),
    ):
        assert old in text
        rewrite(saved, card=text.replace(old, new, 1))
        with pytest.raises(ModelError, match=message):
            load_model(saved)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match=f"no napari-xt model card.*{CONVERT}"):
        load_model(tmp_path / "foreign.safetensors")


def test_card_of_another_size_does_not_fit_the_tensors(saved: Path) -> None:
    card = read_card(saved)
    wider = card.model_copy(update={"context": ContextInfo(kind="attention", dim=32, layers=3)})
    rewrite(saved, card=wider.to_json())
    with pytest.raises(ModelError, match=r"missing: context\.blocks\.2.*and 4 more; mis-shaped"):
        load_model(saved)


# --- writing -----------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file(
    make_xt: Make, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpaceError, match=r"toy\.safetensors"):
        save_model(make_xt(seed=9), saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["toy.safetensors"]


def test_a_model_lasts_through_a_power_cut(
    make_xt: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(publishing, "_flush_folder", flushed.append)
    save_model(make_xt(), tmp_path / "m.safetensors")
    assert flushed == [tmp_path]


def test_a_folder_that_is_not_there(make_xt: Make, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        save_model(make_xt(), tmp_path / "no" / "m.safetensors")


def test_published_files_are_readable_like_others(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_numbers_that_are_not_finite_are_not_written(make_xt: Make, tmp_path: Path) -> None:
    model = make_xt()
    model.card = model.card.model_copy(update={"metrics": {"f1": float("nan")}})
    with pytest.raises(ModelError, match="not finite"):
        save_model(model, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())
