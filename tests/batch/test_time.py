"""The time of a run has a name, but for a small rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xt_backend.cli.rows import time_spent
from xt_backend.engine import BESIDE, PARTS

SAMPLE = Path(__file__).parents[2] / "sample_slides" / "sample_5_0.tiff"


def seconds_in(out: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((out / "run.json").read_text(encoding="utf-8"))["seconds"]
    return found


def check(seconds: dict[str, float]) -> None:
    assert set(seconds) == {*PARTS, *BESIDE, "other", "total"}
    named = sum(seconds[name] for name in PARTS)
    assert named >= 0.6 * seconds["total"]
    assert named + seconds["other"] == pytest.approx(seconds["total"], abs=0.01)


@pytest.fixture
def own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs for a thread only while it computes, whatever else the machine does."""
    monkeypatch.setattr(time, "perf_counter", time.thread_time)


@pytest.mark.usefixtures("own_time")
@pytest.mark.parametrize("command", ["score", "features"])
def test_the_parts_add_up_to_the_total(
    call: Callable[..., Any], tiny_model: Path, tmp_path: Path, command: str
) -> None:
    what: dict[str, list[Any]] = {
        "score": ["score", "--model", tiny_model],
        "features": ["features", "--encoder", "tf_efficientnet_lite0", "--weights", "random"],
    }
    out = tmp_path / "out"
    done = call(*what[command], SAMPLE, "--out", out, "--cache", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    seconds = seconds_in(out)
    check(seconds)
    assert min(seconds[name] for name in ("load", "open", "encode", "write", "store")) > 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("time: ")]
    for words in ("encoding", "opening slides", "loading the model"):
        assert words in line
    # Once more: nothing is encoded, and what that takes has names too.
    again = call(*what[command], SAMPLE, "--out", tmp_path / "again", "--cache", tmp_path / "cache")
    assert again.returncode == 0, again.stderr
    check(seconds_in(tmp_path / "again"))
    assert seconds_in(tmp_path / "again")["reload"] > 0
    (line,) = [line for line in again.stderr.splitlines() if line.startswith("time: ")]
    assert "encoding" not in line


def test_small_parts_are_not_named() -> None:
    seconds = dict.fromkeys((*PARTS, *BESIDE), 0.0)
    seconds |= {"encode": 90.0, "open": 9.7, "load": 0.3, "other": 0.0, "total": 100.0}
    assert time_spent(seconds).startswith(
        "time: 100.0 s; encoding 90%, opening slides 10%; beside that, reading took 0.0 s"
    )


def test_shares_of_several_workers_add_up_to_their_time() -> None:
    seconds = dict.fromkeys((*PARTS, *BESIDE, "other"), 0.0)
    seconds |= {"encode": 150.0, "load": 50.0, "total": 110.0}
    assert time_spent(seconds).startswith("time: 110.0 s; encoding 75%, loading the model 25%;")
