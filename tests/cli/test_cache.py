"""What is kept can be listed, checked and bounded, and finished runs can be checked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Call, rows
from support.slides import write_tissue_slide

FEATURES = ("--encoder", "tf_efficientnet_lite0", "--weights", "random", "--model-mpp", "1.0",
            "--region-px", "64")  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def scored(call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path, cache: Path) -> Path:
    """A run, whose features and measures are in the cache."""
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--cache", cache)
    assert done.returncode == 0, done.stderr
    return out


def test_what_is_kept_is_listed_and_pruned_the_longest_unused_first(
    call: Call, scored: Path, tiny_model: Path, tmp_path: Path, cache: Path
) -> None:
    other = write_tissue_slide(tmp_path / "other.tiff", side=512)
    done = call("features", other, *FEATURES, "--out", tmp_path / "f", "--cache", cache)
    assert done.returncode == 0, done.stderr
    told = json.loads(call("cache", "list", "--cache", cache, "--json").stdout)
    stores = told["stores"]
    assert len(stores) == 4, "features and measures of two slides"
    assert all(store["regions"] > 0 and store["key"] and not store["problem"] for store in stores)
    assert str(tmp_path) not in json.dumps(stores)
    assert "other" not in json.dumps(stores)
    text = call("cache", "list", "--cache", cache).stdout
    assert "tf_efficientnet_lite0, 64 px at 1 um/px" in text
    assert text.count("quality of regions") == 2
    assert "4 stores, " in text.splitlines()[-1]

    oldest = stores[2]
    for folder in cache.rglob(oldest["digest"]):
        for path in folder.iterdir():
            os.utime(path, (1e9, 1e9))
    in_all = sum(store["bytes"] for store in stores)
    room = (in_all - 1) / 1e9
    done = call("cache", "prune", "--max-gb", room, "--cache", cache, "--json")
    told = json.loads(done.stdout)
    assert [store["digest"] for store in told["removed"]] == [oldest["digest"]]
    assert told["freed_bytes"] == oldest["bytes"]
    assert told["left_bytes"] == in_all - oldest["bytes"]
    assert "3 stores" in call("cache", "list", "--cache", cache).stdout
    assert "3 stores removed" in call("cache", "prune", "--max-gb", 0, "--cache", cache).stdout
    assert call("cache", "prune", "--max-gb", -1, "--cache", cache).returncode == 2


def test_damage_is_found_set_aside_and_removed(
    call: Call, scored: Path, cache: Path, tissue_slide: Path, tiny_model: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("index.json")}
    assert call("cache", "verify", "--cache", cache).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "to look is no use"
    (shard,) = (path for path in cache.rglob("*.h5") if "quality" not in path.parts)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = call("cache", "verify", "--cache", cache, "--json")
    assert done.returncode == 3
    (problem,) = json.loads(done.stdout)["problems"]
    assert "moved aside" in problem
    (bad,) = cache.rglob("*.bad")
    assert "1 damaged" in call("cache", "list", "--cache", cache).stdout
    done = call("cache", "prune", "--cache", cache)
    assert done.returncode == 0
    assert "0 stores removed" in done.stdout
    assert not bad.exists()


def test_an_empty_cache_is_no_error(call: Call, tmp_path: Path) -> None:
    for command in ("list", "verify", "prune"):
        done = call("cache", command, "--cache", tmp_path / "none")
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "none").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("what", [cut, Path.unlink], ids=["damaged", "gone"])
@pytest.mark.parametrize("suffix", ["run.h5", "regions.csv", "geojson", "overlay.png"])
def test_a_run_is_verified_and_made_whole_again(
    call: Call,
    scored: Path,
    tissue_slide: Path,
    tiny_model: Path,
    cache: Path,
    suffix: str,
    what: Callable[[Path], None],
) -> None:
    path = scored / f"{tissue_slide.stem}.{suffix}"
    before = path.read_bytes()
    what(path)
    done = call("verify", scored, "--json")
    assert done.returncode == 3
    problem = json.loads(done.stdout)["problems"][tissue_slide.stem]
    assert path.name in problem
    path.unlink(missing_ok=True)  # as the way out says
    again = ("score", tissue_slide, "--model", tiny_model, "--out", scored, "--cache", cache)
    assert call(*again).returncode == 0
    assert path.read_bytes() == before
    assert rows(scored)[0]["encoded_regions"] == "0"
    assert call("verify", scored).returncode == 0


def test_files_of_features_are_verified(call: Call, tissue_slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    asked = ("features", tissue_slide, *FEATURES, "--layout", "trident", "--out", out)
    assert call(*asked).returncode == 0
    assert "1 slide with results, 0 slides with problems" in call("verify", out).stdout
    (path,) = out.rglob("*_patches.h5")
    cut(path)
    done = call("verify", out)
    assert done.returncode == 3
    assert "is not as it was written" in done.stderr
    assert call(*asked).returncode == 0
    assert call("verify", out).returncode == 0


def test_what_is_no_run_is_not_verified(call: Call, scored: Path, tmp_path: Path) -> None:
    assert call("verify", tmp_path / "nowhere").returncode == 2
    (scored / "slides.csv").unlink()
    done = call("verify", scored)
    assert done.returncode == 2
    assert "napari-xt summarise" in done.stderr
