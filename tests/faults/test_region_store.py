"""A damaged region store: found, told, moved aside, made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import Call, rows

FEATURES = ("--encoder", "tf_efficientnet_lite0", "--weights", "random", "--model-mpp", "1.0",
            "--region-px", "64")  # fmt: skip


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
@pytest.mark.parametrize("command", ["score", "features"])
def test_case_05_a_damaged_shard_is_told_and_encoded_again(
    call: Call, command: str, damage: str, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    more = FEATURES if command == "features" else ("--model", tiny_model)

    def run(out: str) -> tuple[str, dict[str, str]]:
        done = call(command, tissue_slide, *more, "--out", tmp_path / out, "--cache", cache)
        assert done.returncode == 0, done.stderr
        return done.stderr, rows(tmp_path / out)[0]

    run("first")
    (shard,) = cache.glob("*/*/*.h5")
    whole = shard.read_bytes()
    # The features are the largest dataset: the middle of the file lies in them.
    middle = len(whole) // 2
    shard.write_bytes(
        {
            "flip": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "cut": whole[:middle],
            "empty": b"",
        }[damage]
    )
    said, row = run("second")
    assert "block.tiff: Store" in said
    assert f"moved aside as {shard.name}.bad" in said
    assert (row["encoded_regions"], row["cache"]) == ("16", "miss")
    (told,) = json.loads((tmp_path / "second" / "run.json").read_text())["store_problems"]["block"]
    assert f"{shard.name}.bad" in told
    assert shard.with_name(f"{shard.name}.bad").is_file()
    assert shard.read_bytes() == whole
    suffix = "features.h5" if command == "features" else "regions.csv"
    first, second = (
        (tmp_path / out / f"block.{suffix}").read_bytes() for out in ("first", "second")
    )
    assert first == second
    said, row = run("third")
    assert "Store" not in said
    assert (row["encoded_regions"], row["cache"]) == ("0", "hit")
