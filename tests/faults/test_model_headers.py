"""Model files whose headers were made to hurt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xt_backend.errors import ModelError
from xt_backend.model import library, list_models
from xt_backend.model.header import read_header


def write(path: Path, entry: Any, data: bytes = b"\0" * 16) -> Path:
    header = json.dumps({"weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"data_offsets": ["a", "b"]},
        {"data_offsets": [None, 16]},
        {"data_offsets": [0.0, 16.0]},
        {"data_offsets": [0, 16, 32]},
        {"data_offsets": [-16, 0]},
        {"shape": ["a"]},
        {"shape": [4.0]},
        {"shape": [-4, -1]},
        {"shape": [[4]]},
        {"shape": [True, 4]},
        {"shape": None},
        {"dtype": ["F32"]},
        {"dtype": "F33"},
    ],
)
def test_entries_of_other_kinds_are_damage(changes: dict[str, Any], tmp_path: Path) -> None:
    good = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    assert read_header(write(tmp_path / "a.safetensors", good)).tensors == {"weight": ("F32", (4,))}
    with pytest.raises(ModelError, match="damaged header"):
        read_header(write(tmp_path / "a.safetensors", {**good, **changes}))


@pytest.mark.parametrize("entry", [None, 4, "F32", [], {}])
def test_entries_that_are_no_entries_are_damage(entry: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="damaged header"):
        read_header(write(tmp_path / "a.safetensors", entry))


def test_the_list_of_models_survives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": ["a", "b"]}
    write(tmp_path / "crafted.safetensors", entry)
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(library, "models_folder", lambda: tmp_path)
    entries = {item.name: item for item in list_models()}
    assert entries["context-demo"].card is not None
    assert "damaged header" in entries["crafted"].problem
    assert "does not exist" in entries["gone"].problem
