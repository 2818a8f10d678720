"""What `napari-xt models fetch` brings here, from a cache of the hub without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from xt_backend.model import XT, build_region_encoder, find_model, load_model, save_model
from xt_backend.model import fetch as fetch_module
from xt_backend.model import library as library_module

Call = Callable[..., Any]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 24]}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a repository ``someone/NAME`` in the hub's cache; returns its folder of files."""
    from huggingface_hub import constants

    def make(name: str) -> Path:
        folder = tmp_path / "hub" / f"models--someone--{name}"
        files = folder / "snapshots" / COMMIT
        files.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
        return files

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return make


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of models, which does not exist yet."""
    folder = tmp_path / "own" / "models"
    for module in (library_module, fetch_module):
        monkeypatch.setattr(module, "models_folder", lambda: folder)
    return folder


def put_encoder(files: Path) -> None:
    """A convnext of the hub, as timm would store it."""
    encoder = build_region_encoder(
        "convnext_atto", region_px=64, weights="random", backbone_args=TINY
    )
    save_file(encoder.backbone.state_dict(), files / "model.safetensors")
    config = {
        "architecture": "convnext_atto",
        "model_args": TINY,
        "pretrained_cfg": {"input_size": [3, 64, 64], "license": "mit", "classifier": "head.fc"},
    }
    (files / "config.json").write_text(json.dumps(config))


def test_an_encoder_of_the_hub_is_told_with_commit_and_licence(
    call: Call, hub: Callable[[str], Path], local: Path
) -> None:
    put_encoder(hub("tiny"))
    done = call("models", "fetch", "hf-hub:someone/tiny", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    encoder = build_region_encoder("hf-hub:someone/tiny", region_px=64)
    assert found == {
        "name": "hf-hub:someone/tiny",
        "kind": "region encoder",
        "source": "hf-hub:someone/tiny",
        "revision": COMMIT,
        "sha256": encoder.info.sha256,
        "licence": "mit",
    }
    assert not local.exists()
    told = call("models", "fetch", f"hf-hub:someone/tiny@{COMMIT}").stdout
    assert "--encoder hf-hub:someone/tiny" in told
    assert COMMIT in told


def test_a_model_of_the_hub_gets_a_name(
    call: Call, hub: Callable[[str], Path], local: Path, make_xt: Callable[..., XT]
) -> None:
    files = hub("glands.v2")
    save_model(make_xt(), files / "model.safetensors")
    (files / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    for _ in range(2):  # the second time it is here already
        done = call("models", "fetch", "hf-hub:someone/glands.v2", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["name"], found["kind"]) == ("glands.v2", "model")
        assert (found["revision"], found["licence"]) == (COMMIT, "cc-by-4.0")
    assert find_model("glands.v2") == local / "glands.v2.safetensors"
    assert load_model("glands.v2").card.name == "toy"
    assert call("models", "fetch", "glands.v2", "--offline").returncode == 0

    # Another model of that name is never replaced.
    save_model(make_xt(name="changed"), files / "model.safetensors")
    done = call("models", "fetch", "hf-hub:someone/glands.v2")
    assert done.returncode == 2
    assert "another model named glands.v2 (local)" in done.stderr
    assert load_model("glands.v2").card.name == "toy"


def test_a_known_model_gets_the_encoder_that_its_file_lacks(
    call: Call, hub: Callable[[str], Path], local: Path, make_xt: Callable[..., XT]
) -> None:
    files = hub("tiny")
    put_encoder(files)
    encoder = build_region_encoder("hf-hub:someone/tiny", region_px=64)
    info = encoder.info.model_copy(update={"embedded": False})
    sizes = {"region_px": 64, "input_px": 64, "region_encoder": info}
    local.mkdir(parents=True)
    save_model(XT(make_xt().card.model_copy(update=sizes), encoder), local / "light.safetensors")
    assert call("models", "fetch", "light").returncode == 0
    shutil.rmtree(files)
    done = call("models", "fetch", "light")
    assert done.returncode == 2
    assert "config.json of hf-hub:someone/tiny" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10t", "model.safetensors of hf-hub:timm/resnet10t"),
        ("hf-hub:someone/missing", "model.safetensors of hf-hub:someone/missing"),
        ("hf-hub:nowhere", "hf-hub:owner/name"),
        ("context-dem", "context-dem"),
    ],
)
def test_what_is_not_to_be_had_is_named(
    call: Call, hub: Callable[[str], Path], name: str, message: str
) -> None:
    done = call("models", "fetch", name)
    assert done.returncode == 2
    assert message in done.stderr


def test_bundled_models_are_here(call: Call, hub: Callable[[str], Path]) -> None:
    done = call("models", "fetch", "context-demo")
    assert done.returncode == 0, done.stderr
    assert "--model context-demo needs no network" in done.stdout
