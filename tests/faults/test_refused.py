"""Files that were made to hurt, on the command line: refused in words, and nothing of them runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.cli import Call, Finished, rows

from xt_backend import open_slide


def refused(done: Finished, out: Path) -> str:
    """What was said of bad usage, before anything was made."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    return done.stderr


# --- the cache ---------------------------------------------------------------------------------


def external_link(file: Any) -> None:
    del file["features"]
    file["features"] = h5py.ExternalLink("secret.h5", "/data")


def soft_link(file: Any) -> None:
    file.move("features", "real")
    file["features"] = h5py.SoftLink("/real")


def external_storage(file: Any) -> None:
    shape, kind = file["features"].shape, file["features"].dtype
    n_bytes = int(np.prod(shape)) * kind.itemsize
    del file["features"]
    file.create_dataset("features", shape, kind, external=[("secret.bin", 0, n_bytes)])


def objects(file: Any) -> None:
    del file["features"]
    file.create_dataset("features", (16,), h5py.string_dtype())


def huge(file: Any) -> None:
    del file["features"]
    file.create_dataset("features", (10**12, 1, 1280), "f2", chunks=(1, 1, 1280))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (external_link, "link into another file"),
        (soft_link, "soft link"),
        (external_storage, "in another file"),
        (objects, "no plain number"),
        (huge, "bytes"),
    ],
)
def test_case_07_a_shard_that_is_made_to_hurt_is_refused_and_made_anew(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    change: Callable[[Any], None],
    why: str,
) -> None:
    cache = tmp_path / "cache"
    command = ("score", tissue_slide, "--model", tiny_model, "--cache", cache, "--out")
    assert call(*command, tmp_path / "first").returncode == 0
    (shard,) = cache.glob("*/*/*.h5")
    whole = shard.read_bytes()
    # Numbers that a result would show, were they read.
    (shard.parent / "secret.bin").write_bytes(bytes(10**6))
    with h5py.File(shard.parent / "secret.h5", "w") as file:
        file["data"] = np.zeros((16, 1, 1280), np.float16)
    with h5py.File(shard, "r+") as file:
        change(file)
    done = call(*command, tmp_path / "second")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert why in done.stderr
    assert f"moved aside as {shard.name}.bad" in done.stderr
    assert shard.read_bytes() == whole
    assert rows(tmp_path / "second")[0]["encoded_regions"] == "16"
    first, second = ((tmp_path / name / "block.regions.csv").read_bytes()
                     for name in ("first", "second"))  # fmt: skip
    assert first == second


# --- slides ------------------------------------------------------------------------------------


def test_case_09_what_is_no_slide_says_why_in_its_row(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    whole = tissue_slide.read_bytes()
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("Dear colleague,\nthe slide follows.\n")
    (tmp_path / "cut.tiff").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.svs").mkdir()
    words = {
        "missing.svs": "There is no file",
        "empty.svs": "0 bytes",
        "text.svs": "plain text",
        "cut.tiff": "cut off",
        "folder.svs": "without DICOM",
    }
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(["slide", *words, str(tissue_slide)]) + "\n")
    done = call("score", manifest, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    table = {row["slide"]: row for row in rows(tmp_path / "run")}
    assert table.pop(tissue_slide.name)["status"] == "done"
    assert {name: row["status"] for name, row in table.items()} == dict.fromkeys(words, "failed")
    for name, word in words.items():
        assert word in table[name]["reason"], name
    assert len({row["reason"] for row in table.values()}) == len(words)


@pytest.mark.parametrize(
    "ask",
    [
        lambda slide: slide.read_level(9, 0, 0, 10, 10),
        lambda slide: slide.read_level(-1, 0, 0, 10, 10),
        lambda slide: slide.read_level(0, 5000, 0, 10, 10),
        lambda slide: slide.read_level(0, 0, 0, 10, 0),
        lambda slide: slide.read(5000, 0, 10, 10, 1.0),
        lambda slide: slide.read(0, -50, 10, 10, 1.0),
        lambda slide: slide.read(float("nan"), 0, 10, 10, 1.0),
        lambda slide: slide.thumbnail(0),
    ],
)
def test_case_14_what_is_not_there_is_a_value_error(
    tissue_slide: Path, ask: Callable[[Any], Any]
) -> None:
    with open_slide(tissue_slide) as slide:
        with pytest.raises(ValueError, match=r"[a-z]"):
            ask(slide)
        assert slide.read(0, 0, 10, 10, 1.0).shape == (10, 10, 3)  # and it goes on


# --- models ------------------------------------------------------------------------------------


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "it ran")


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pt2", "a.jit", "a.package", "a.safetensors"])
@pytest.mark.parametrize("how", ["torch", "pickle", "archive"])
def test_case_17_nothing_in_a_model_runs(
    call: Call, tissue_slide: Path, tmp_path: Path, name: str, how: str
) -> None:
    path, marker, out = tmp_path / name, tmp_path / "marker", tmp_path / "run"
    evil = Evil(marker)
    if how == "torch":
        torch.save(evil, path)
    elif how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(evil))
            archive.writestr("archive/version", "3\n")
    said = refused(call("score", tissue_slide, "--model", path, "--out", out), out)
    assert "models convert" in said
    assert not marker.exists()
    pickle.loads(pickle.dumps(evil))
    assert marker.exists(), "it would have run"


def rewritten(model: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a model with other tensors under the same card."""
    tensors = dict(load_file(model))
    change(tensors)
    with safe_open(model, "pt") as file:
        save_file(tensors, path, file.metadata())
    return path


def other_tensors(tensors: dict[str, Any]) -> None:
    del tensors["context.norm.weight"]
    tensors["wings"] = torch.zeros(2)
    tensors["region_head.out.bias"] = torch.zeros(7)


def other_value(tensors: dict[str, Any]) -> None:
    tensors["reduce.mean"] = tensors["reduce.mean"] + 1e-3


def other_encoder(tensors: dict[str, Any]) -> None:
    name = next(name for name in tensors if name.startswith("region_encoder."))
    tensors[name] = tensors[name] + 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            other_tensors,
            ["missing: context.norm.weight", "extra: wings", "region_head.out.bias F32 [7]"],
        ),
        (other_value, ["do not have the sha256"]),
        (other_encoder, ["do not have the sha256"]),
    ],
)
@pytest.mark.parametrize("more", [(), ("--isolate",)], ids=["here", "isolated"])
def test_case_18_a_model_that_is_not_what_its_card_says_ends_the_batch(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    words: list[str],
    more: tuple[str, ...],
) -> None:
    """It is told once, and no slide is blamed for it."""
    other = tmp_path / "other.tiff"
    other.write_bytes(tissue_slide.read_bytes())
    out = tmp_path / "run"
    model = rewritten(tiny_model, tmp_path / "m.safetensors", change)
    done = call("score", tissue_slide, other, "--model", model, "--out", out, *more)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    for word in words:
        assert said.count(word) == 1
    assert not list(out.glob("*.run.h5"))
    assert not list(out.glob("ledger/*.outcome.json"))


# --- configurations ----------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour: red\n", "colour"),
        ("batch_size: many\n", "batch_size"),
        ("stride: [1, 2]\n", "stride"),
        ("tissue: !!python/object/apply:os.mkdir ['marker']\n", "python/object"),
        (LAUGHS, "aliases"),
        ("a: [" + "x, " * 3_500_000 + "x]\n", "bytes"),
    ],
    ids=["unknown", "type", "list", "object", "laughs", "10 MB"],
)
def test_case_30_a_configuration_that_is_none_is_refused_by_name(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    config, out = tmp_path / "options.yaml", tmp_path / "run"
    config.write_text(text)
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--config", config)
    assert named in refused(done, out)
    assert os.listdir(tmp_path) == ["options.yaml"], "something was made"
