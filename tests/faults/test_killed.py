"""A process that is killed, or finds no space, loses nothing and leaves nothing half written."""

from __future__ import annotations

import csv
import errno
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.cli import Call, rows
from support.commands import Command
from support.injected import die_at_replace, full_disk
from support.run_files import check_same, check_whole, result_of
from support.slides import tissue_image, write_tiff_slide

from xt_backend.batch.ledger import Ledger
from xt_backend.keys import RunFile, SlideStatus
from xt_backend.store import RegionStore, list_stores

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals and limits")

PARTIAL = f"{'0' * 32}.partial"


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides of 16 regions of the tiny model."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(("a", "b")):
        image = tissue_image(512, 512, ((0, 0, 512, 512),), seed)
        write_tiff_slide(folder / f"{name}.tiff", image)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(
    slides: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a run of both gives that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    done = Command(score(slides, tiny_model, folder), folder / "log")
    assert done.end() == 0, done.said
    return result_of(folder / "run")


def score(slides: Path, model: Path, folder: Path) -> list[str | Path]:
    return ["score", slides, "--model", model, "--out", folder / "run", "--cache",
            folder / "cache", "--batch-size", "4", "--device", "cpu"]  # fmt: skip


def check_all(folder: Path) -> None:
    """Every file under a final name is whole."""
    check_whole(folder / "run")
    for store in list_stores(folder / "cache"):
        if store.key is not None:
            assert RegionStore.open(folder / "cache", store.key).verify() == []


def check_ledger(run: Path) -> None:
    """There is one entry for each slide, and it says that it is done."""
    ledger = Ledger(run / RunFile.LEDGER)
    names = [path.name for path in sorted(ledger.path.glob(f"*{RunFile.OUTCOME}"))]
    assert names == [f"{name}{RunFile.OUTCOME}" for name in ("a", "b")]
    for name in ("a", "b"):
        entry = ledger.read(name)
        assert entry is not None
        assert entry.outcome.row.status == SlideStatus.DONE


def test_case_01_killed_at_every_publication(
    slides: Path, tiny_model: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    command = score(slides, tiny_model, tmp_path)
    for nth in range(1, 60):
        # Each call comes a step further than the one before, which left it something done.
        deadly = functools.partial(die_at_replace, nth, bool(nth % 2))
        killed = Command(command, tmp_path / "log", deadly)
        code = killed.end()
        check_all(tmp_path)
        if code == 0:
            break
        assert code == -signal.SIGKILL, killed.said
    assert nth > 4, "hardly anything was killed"
    check_same(result_of(tmp_path / "run"), uninterrupted)
    assert not list(tmp_path.rglob("*.bad"))
    # Partial files of the killed ones are old enough now to be swept by the next call.
    time.sleep(0.1)
    again = Command(command, tmp_path / "log")
    assert again.end() == 0, again.said
    assert not list((tmp_path / "run").glob("*.partial"))
    check_same(result_of(tmp_path / "run"), uninterrupted)


def test_case_01_killed_at_random_moments(
    slides: Path, tiny_model: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    command = score(slides, tiny_model, tmp_path)
    moments = random.Random(7)
    killed = 0
    for _ in range(4):
        running = Command(command, tmp_path / "log")
        # From the first finished block on: what is killed before has nothing to lose.
        while running.runs and not list(tmp_path.glob("cache/*/*/*.h5")):
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.4))
        running.kill()
        killed += running.end() == -signal.SIGKILL
        check_all(tmp_path)
    assert killed >= 2
    last = Command(command, tmp_path / "log")
    assert last.end() == 0, last.said
    check_same(result_of(tmp_path / "run"), uninterrupted)


def test_case_01_a_series_of_kills_changes_no_output(checkout: Path, tmp_path: Path) -> None:
    """Started as users do, block after block; scripts/kill_series.py does 200, with more slides."""
    done = subprocess.run(
        [sys.executable, str(checkout / "scripts" / "kill_series.py"), "4", "--slides", "1",
         "--keep", str(tmp_path / "series"), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    log = (tmp_path / "series" / "log").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + log
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["n_kills"] == 4
    assert found["n_batches"] >= 1
    assert found["n_regions"] > 256  # more than a block
    assert 0 < found["may_lose"] < found["n_regions"]
    assert found["most_lost"] <= found["may_lose"]


@pytest.mark.parametrize(
    "limit_bytes",
    [
        pytest.param(2_000, id="tables"),
        pytest.param(40_000, id="shards"),
    ],
)
def test_case_02_no_space_while_publishing(
    slides: Path, tiny_model: Path, tmp_path: Path, limit_bytes: int
) -> None:
    (tmp_path / "run").mkdir()
    command = score(slides, tiny_model, tmp_path)
    ended = Command(command, tmp_path / "log", functools.partial(full_disk, limit_bytes))
    said = (ended.end(), ended.said)
    assert said[0] == 5, said
    assert "No space left to write" in said[1]
    assert str(tmp_path) in said[1]
    assert "bytes are needed" in said[1]
    assert "Traceback" not in said[1]
    assert not list(tmp_path.rglob("*.partial"))
    check_all(tmp_path)


def test_case_02_no_space_to_convert_the_encoder(
    slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs the extra cpu")
    command = [*score(slides, tiny_model, tmp_path), "--encoder-backend", "openvino"]
    first = Command(command, tmp_path / "log")
    assert first.end() == 0, first.said
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / "cache")
    # Which way is the fastest is known now; what is converted was kept in the cache.
    ended = Command(command, tmp_path / "log", functools.partial(full_disk, 400_000))
    assert ended.end() == 5, ended.said
    assert "No space left to write" in ended.said


def test_case_02_the_previous_version_stays(slides: Path, tiny_model: Path, tmp_path: Path) -> None:
    command = score(slides, tiny_model, tmp_path)
    done = Command(command, tmp_path / "log")
    assert done.end() == 0, done.said
    before = result_of(tmp_path / "run")
    ended = Command(command, tmp_path / "log", functools.partial(full_disk, 2_000))
    assert ended.end() == 5, ended.said
    after = result_of(tmp_path / "run")
    # It may say that a second call began and did not end.
    assert after.pop("run.json")["configuration"] == before.pop("run.json")["configuration"]
    check_same(after, before)
    assert not list(tmp_path.rglob("*.partial"))


def test_case_03_orphans_are_swept_at_the_start(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ("score", tissue_slide, "--model", tiny_model, "--out", out)
    assert call(*command).returncode == 0
    orphan, foreign = out / f"block.run.h5.{PARTIAL}", out / "download.partial"
    young = out / f"slides.csv.{PARTIAL}"
    for path in (orphan, foreign, young):
        path.write_bytes(b"half")
    for path, age_s in ((orphan, 60), (foreign, 60), (young, -3600)):
        moment = time.time() - age_s
        os.utime(path, (moment, moment))
    assert call(*command).returncode == 0
    assert not orphan.exists()
    assert foreign.exists()
    assert young.exists()


def test_case_04_two_processes_score_one_folder(
    slides: Path, tiny_model: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    command = score(slides, tiny_model, tmp_path)
    both = [Command(command, tmp_path / f"log{i}") for i in range(2)]
    for running in both:
        assert running.end() == 0, running.said
    check_same(result_of(tmp_path / "run"), uninterrupted)
    check_all(tmp_path)
    assert [row["slide"] for row in rows(tmp_path / "run")] == ["a.tiff", "b.tiff"]
    check_ledger(tmp_path / "run")


def test_case_04_one_of_two_is_killed(
    slides: Path, tiny_model: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    command = score(slides, tiny_model, tmp_path)
    # It dies with its partial files still there, and, where there are locks, with them held.
    doomed = Command(command, tmp_path / "log0", functools.partial(die_at_replace, 3, False))
    other = Command(command, tmp_path / "log1")
    assert doomed.end() == -signal.SIGKILL, doomed.said
    assert other.end() == 0, other.said
    check_same(result_of(tmp_path / "run"), uninterrupted)
    with (tmp_path / "run" / "slides.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "done"]
    check_ledger(tmp_path / "run")


def test_case_34_no_locks_and_clocks_that_differ(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    import fcntl

    def no_locks(*args: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    slide = tmp_path / "slide.tiff"
    slide.write_bytes(tissue_slide.read_bytes())
    ahead = time.time() + 7 * 86400
    os.utime(slide, (ahead, ahead))
    out = tmp_path / "run"
    command = ("score", slide, "--model", tiny_model, "--out", out, "--cache", tmp_path / "cache")
    assert call(*command).returncode == 0
    before = result_of(out)
    for path in (*out.iterdir(), *tmp_path.glob("cache/*/*/*")):
        os.utime(path, (ahead, ahead))
    assert call(*command).returncode == 0
    check_same(result_of(out), before)
    assert rows(out)[0]["encoded_regions"] == "0"
    (out / "slide.run.h5").unlink()
    assert call(*command).returncode == 0
    check_same(result_of(out), before)
    assert rows(out)[0]["cache"] == "hit"
