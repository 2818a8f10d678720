from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from xt_backend.errors import StoreCorruptError, StoreError, UsageError
from xt_backend.outputs import read_json, write_local_json, write_run_json


def test_run_json_tells_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    content = {
        "slides": [tmp_path / "DOE^JOHN" / "x.svs"],
        "model": f"{tmp_path}/DOE^JOHN/m.safetensors",
        "device": "cpu",
        "loss": float("nan"),
        "umlaut": "ü",
    }
    write_run_json(path, content)
    assert "DOE^JOHN" not in path.read_text()
    assert str(tmp_path) not in path.read_text()
    assert read_json(path) == {
        "slides": ["x.svs"],
        "model": "m.safetensors",
        "device": "cpu",
        "loss": None,
        "umlaut": "ü",
    }


def test_local_json_keeps_folders_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "local.json"
    path.write_text("older")
    path.chmod(0o644)
    slide = tmp_path / "DOE^JOHN" / "x.svs"
    write_local_json(path, {"slides": [slide]})
    assert read_json(path) == {"slides": [str(slide)]}
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_json_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.config\.slide"):
        write_run_json(tmp_path / "run.json", {"config": {"slide": object()}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\xff"])
def test_what_is_no_run_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreCorruptError, match=r"run\.json"):
        read_json(path)
    with pytest.raises(StoreError) as caught:
        read_json(tmp_path / "none.json")
    assert not isinstance(caught.value, StoreCorruptError)


def test_strict_json(tmp_path: Path) -> None:
    write_run_json(tmp_path / "run.json", {"a": float("inf")})
    assert json.loads((tmp_path / "run.json").read_text(), parse_constant=pytest.fail) == {
        "a": None
    }
