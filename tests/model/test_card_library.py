from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import xt_backend.model
from xt_backend.errors import InputNotFoundError, ModelError
from xt_backend.model import XT, find_model, list_models, load_model, save_model
from xt_backend.model import library as library_module
from xt_backend.model.card import ModelCard
from xt_backend.model.registry import Registry

Make = Callable[..., XT]


def test_card_survives_json(make_xt: Make) -> None:
    card = make_xt(
        metrics={"f1": {"tumour": 0.5}},
        thresholds={"tumour": 0.3},
        label_rule={"min_fraction": {"tumour": 0.1}},
        feature_stats={"mean": [0.0], "std": [1.0]},
    ).card
    assert ModelCard.from_json(card.to_json(), where="x") == card
    assert card.to_json() == ModelCard.from_json(card.to_json(), where="x").to_json()
    assert (card.class_names, card.region_um) == (("normal", "tumour", "stroma"), 16.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ({"name": "a", "color": "#fff"},) * 2}, "color"),
        ({"classes": ({"name": "a", "color": "#ffffff"},) * 2}, "class names must differ"),
        ({"classes": ({"name": "a", "color": "#ffffff"},)}, "classes"),
        ({"thresholds": {"nobody": 0.5}}, "unknown classes: nobody"),
        ({"thresholds": {"tumour": 1.5}}, "thresholds"),
        ({"label_rule": {"min_fraction": {"nobody": 0.5}}}, "unknown classes: nobody"),
        ({"region_px": 40}, "not a multiple of input_px 16"),
        ({"model_mpp": 0.01}, "model_mpp"),
        ({"temperature": 0.0}, "temperature"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be positive"),
        ({"task": "slide", "context": {"kind": "none", "dim": 8, "layers": 0}}, "attention-mil"),
        ({"context": {"kind": "mamba2", "dim": 8000, "layers": 100}}, "too large"),
        ({"region_encoder": {"name": "local-dir:/x"}}, "name"),
        ({"region_encoder": {"name": "a", "backbone_args": {"cache_dir": "x"}}}, "cache_dir"),
        ({"region_encoder": {"name": "a", "backbone_args": {"d": {"e": [1e9]}}}}, "out of range"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_cards_that_contradict_themselves(
    make_xt: Make, change: dict[str, Any], message: str
) -> None:
    data = {**json.loads(make_xt().card.to_json()), **change}
    with pytest.raises(ValidationError, match=message):
        ModelCard.model_validate(data)
    with pytest.raises(ModelError, match=message):
        ModelCard.from_json(json.dumps(data), where="x")


@pytest.fixture
def folders(make_xt: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    bundled, local = tmp_path / "bundled", tmp_path / "local"
    bundled.mkdir()
    local.mkdir()
    save_model(make_xt(), bundled / "breast-demo.safetensors")
    save_model(make_xt(name="mine"), local / "my-model.safetensors")
    save_model(make_xt(name="shadow"), local / "breast-demo.safetensors")
    (local / "broken.safetensors").write_bytes(b"")
    (bundled / "README.md").write_text("not a model")
    monkeypatch.setattr(library_module, "_BUNDLED", bundled)
    monkeypatch.setattr(library_module, "models_folder", lambda: local)
    return bundled, local


def test_list_holds_bundled_local_and_broken_models(folders: tuple[Path, Path]) -> None:
    entries = {entry.name: entry for entry in list_models()}
    assert list(entries) == ["breast-demo", "broken", "my-model"]
    assert entries["breast-demo"].source == "bundled"
    assert entries["breast-demo"].card is not None
    assert entries["breast-demo"].card.name == "toy"
    assert entries["broken"].card is None
    assert "is empty" in entries["broken"].problem


def test_names_and_paths(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundled, local = folders
    assert find_model("breast-demo") == bundled / "breast-demo.safetensors"
    assert find_model("my-model") == local / "my-model.safetensors"
    path = local / "breast-demo.safetensors"
    assert find_model(path) == find_model(str(path)) == path
    assert load_model("my-model").card.name == "mine"
    # A folder that happens to have a model's name does not hide the model.
    monkeypatch.chdir(bundled.parent)
    Path("my-model").mkdir()
    assert find_model("my-model") == local / "my-model.safetensors"
    shutil.copy(path, "no-suffix")
    assert find_model("no-suffix") == Path("no-suffix")


def test_a_name_may_hold_dots(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bundled, local = folders
    for name in ("breast-v1.2", "my.model"):
        shutil.copy(local / "my-model.safetensors", local / f"{name}.safetensors")
        assert name in [entry.name for entry in list_models()]
        assert find_model(name) == local / f"{name}.safetensors"
    assert load_model("breast-v1.2").card.name == "mine"
    monkeypatch.chdir(bundled.parent)
    Path("breast-v1.2").mkdir()
    assert find_model("breast-v1.2") == local / "breast-v1.2.safetensors"
    with pytest.raises(ModelError, match=r"Did you mean: breast-v1\.2"):
        find_model("breast-v1.3")
    with pytest.raises(InputNotFoundError, match=r"model\.ckpt does not exist"):
        find_model("model.ckpt")


def test_unknown_names_and_paths(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ModelError, match="Did you mean: breast-demo"):
        find_model("breast-dmo")
    with pytest.raises(ModelError, match="Known models: breast-demo, broken, my-model"):
        find_model("xyz")
    for path in ("xyz.safetensors", "some/where", Path("xyz")):
        with pytest.raises(InputNotFoundError, match="does not exist"):
            find_model(path)


def test_cards_and_lists_need_no_torch() -> None:
    code = (
        "import sys, xt_backend.model as m\n"
        "m.list_models(); m.ModelCard; m.read_card\n"
        "assert not {'torch', 'timm', 'safetensors'} & set(sys.modules), 'heavy'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_public_names_are_there_and_no_others() -> None:
    for name in xt_backend.model.__all__:
        assert getattr(xt_backend.model, name) is not None
        assert name in dir(xt_backend.model)
    with pytest.raises(AttributeError, match="no attribute 'wings'"):
        _ = xt_backend.model.wings


def test_registry() -> None:
    registry: Registry[int] = Registry("thing")
    registry.register("one")(1)
    assert registry.get("one") == 1
    assert "one" in registry
    assert registry.names() == ("one",)
    with pytest.raises(ModelError, match=r"There is no thing 'two'\. Options: one"):
        registry.get("two")
