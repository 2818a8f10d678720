"""Options: checks and YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from xt_backend.config import FeatureOptions, ScoreOptions, load_yaml
from xt_backend.errors import InputNotFoundError, UsageError

KNOWN = set(ScoreOptions.model_fields)


def write(folder: Path, text: str) -> Path:
    path = folder / "options.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_yaml_takes_dashes_and_underscores(tmp_path: Path) -> None:
    path = write(tmp_path, "slide-mpp: 0.25\nallow_upsample: true\n")
    assert load_yaml(path, KNOWN) == {"slide_mpp": 0.25, "allow_upsample": True}


def test_empty_yaml_is_no_option(tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, "# nothing\n"), KNOWN) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour: red\n", "colour"),
        ("- a\n- b\n", "mapping"),
        ("x: !!python/object/apply:os.system ['true']\n", "python/object"),
        ("a: &a [1]\nb: [*a, *a]\n", "aliases"),
        ("a: [1\n", "YAML"),
        ("a: 2024-99-99", "not plain YAML: month must be"),
        ("a: " + "9" * 5000, "not plain YAML: Exceeds the limit"),
    ],
)
def test_bad_yaml_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        load_yaml(write(tmp_path, text), KNOWN)


def test_a_large_configuration_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bytes"):
        load_yaml(write(tmp_path, "a: " + "x" * 1_000_001), KNOWN)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match="nowhere"):
        load_yaml(tmp_path / "nowhere.yaml", KNOWN)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"device": "gpu"}, "device"),
        ({"precision": "int8"}, "precision"),
        ({"max_failed_fraction": 1.5}, "max_failed_fraction"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_wrong_options_are_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        ScoreOptions.checked(values)


def test_no_cache_means_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_XT_CACHE", str(tmp_path))
    assert FeatureOptions().cache_dir() == tmp_path
    assert FeatureOptions(cache=tmp_path / "a").cache_dir() == tmp_path / "a"
    assert FeatureOptions(use_cache=False).cache_dir() is None
