"""Slides over which the decoder ends or holds its process: with --isolate they fail alone."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from functools import partial
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any
from unittest.mock import Mock

import pytest
from support.cli import Call, rows
from support.commands import Command
from support.engines import below
from support.injected import BAD_DECODER, bad_decoder
from support.slides import tissue_image, write_tiff_slide

from xt_backend import children
from xt_backend.batch.engines import local
from xt_backend.batch.engines.local import ProcessCrew
from xt_backend.batch.engines.messages import Lost
from xt_backend.slides.sifting import Sifter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no signals")

COMMANDS = ["score", "features"]
ENCODER = ("--encoder", "tf_efficientnet_lite0", "--weights", "random", "--model-mpp", "1.0",
           "--region-px", "64")  # fmt: skip
RESULT = {"score": ".run.h5", "features": ".features.h5"}


def write_slides(folder: Path, *names: str) -> Path:
    """Slides of four regions."""
    folder.mkdir()
    image = tissue_image(256, 256, ((0, 0, 256, 256),))
    for name in names:
        write_tiff_slide(folder / f"{name}.tiff", image, levels=1)
    return folder


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Two sound slides, and between them one that kills who opens it."""
    return write_slides(tmp_path / "slides", "a-good", "b-deadly", "c-good")


def of(command: str, model: Path) -> tuple[str | Path, ...]:
    """What a command encodes with."""
    return ("--model", model) if command == "score" else ENCODER


def done_with(command: str, slides: Path, model: Path, out: Path, *more: str) -> tuple[int, str]:
    """Exit code and words of a command in a process of its own, with a decoder that is bad."""
    (out.parent / "site").mkdir(exist_ok=True)
    started = Command(
        [command, slides, *of(command, model), "--out", out, "--tissue", "all", *more],
        out.parent / "log",
        partial(bad_decoder, out.parent / "site"),
    )
    return started.end(), started.said


def check_good(command: str, out: Path, *names: str) -> None:
    """Slides that are sound were done whatever became of the other."""
    table = {row["slide"]: row for row in rows(out)}
    for name in names:
        assert table[f"{name}.tiff"]["status"] == "done"
        assert table[f"{name}.tiff"]["n_regions"] == "4"
        assert (out / f"{name}{RESULT[command]}").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_case_32_a_slide_that_kills_its_decoder_fails_alone(
    command: str, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, said = done_with(command, slides, tiny_model, out, "--isolate")
    assert code == 3, said
    assert "Traceback" not in said
    (deadly,) = [row for row in rows(out) if row["slide"] == "b-deadly.tiff"]
    assert deadly["status"] == "failed"
    assert "signal 11" in deadly["reason"]
    assert "twice with this slide" in deadly["reason"]
    assert str(tmp_path) not in deadly["reason"]
    assert deadly["width_px"] == ""  # nobody looked at it again to fill its row
    check_good(command, out, "a-good", "c-good")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_it_the_decoder_takes_the_batch_along(
    command: str, slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, said = done_with(command, slides, tiny_model, tmp_path / "run")
    assert code == -signal.SIGSEGV, said


def test_case_32_a_slide_that_holds_its_decoder_fails_alone(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Three quarters of a minute, in which a sound slide loads the model and is done."""
    folder = write_slides(tmp_path / "slides", "a-endless", "b-good")
    named = tmp_path / "list.csv"
    named.write_text(f"slide\n{folder / 'a-endless.tiff'}\n{folder / 'b-good.tiff'}\n")
    out = tmp_path / "run"
    more = ("--isolate", "--give-up-after", "0.75")
    code, said = done_with("score", named, tiny_model, out, *more)
    assert code == 3, said
    assert "Traceback" not in said
    held = rows(out)[0]
    assert held["status"] == "failed"
    assert held["reason"].startswith("The slide was given up, as nothing moved for 0.75 min.")
    assert "--give-up-after" in held["reason"]
    assert held["width_px"] == ""
    check_good("score", out, "b-good")


@pytest.mark.parametrize("busy", [True, False])
def test_only_time_of_work_that_was_listened_to_counts(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A computer that slept, or a table that was long to write, gives up no slide."""
    clock = itertools.count(0, 10**6)
    monkeypatch.setattr(local, "monotonic", lambda: next(clock))
    monkeypatch.setattr(local, "wait", lambda connections, timeout_s: [])
    ended: list[Any] = []
    monkeypatch.setattr(local, "end_child", lambda child, patience_s: ended.append(child))
    job: Any = None
    crew = ProcessCrew(job, [{}], 60.0)
    child, connection = Mock(), Mock()
    crew._members[0] = local._Member(child, connection, busy=busy)
    for _ in range(299):
        assert crew.hear(0.2) == []
    heard = crew.hear(0.3)
    if busy:
        ((number, lost),) = heard
        assert number == 0
        assert isinstance(lost, Lost)
        assert "nothing moved for 1 min" in str(lost.verdict)
        assert ended == [child]
    else:
        assert heard == ended == []


def test_files_that_hold_their_decoder_are_told_in_their_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_slides(tmp_path / "slides", "endless", "good")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BAD_DECODER)
    before = filter(None, [os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *before]))
    with Sifter(5.0) as sifter:
        for name in ("endless", "good"):
            assert sifter(folder / f"{name}.tiff") == ""
        assert len(below("xt_backend.slides.sifting")) == 1
    assert below("xt_backend.slides.sifting") == []


class _Unending:
    """A child that waits for a disk that is gone: not even SIGKILL ends it."""

    stdin = None
    killed = 0

    def wait(self, timeout: float | None = None) -> int:
        assert timeout is not None, "it would be waited for for ever"
        raise TimeoutExpired("child", timeout)

    def kill(self) -> None:
        self.killed += 1


def test_a_child_that_nothing_ends_is_left_behind() -> None:
    child: Any = _Unending()
    children.end_child(child, 0.0)
    assert child.killed == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_isolated_slides_give_the_same_bytes_and_are_known_again(
    command: str, call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_slides(tmp_path / "slides", "a") / "a.tiff"
    given = (command, slide, *of(command, tiny_model), "--no-cache", "--tissue", "all")
    assert call(*given, "--out", tmp_path / "here").returncode == 0
    assert call(*given, "--out", tmp_path / "there", "--isolate").returncode == 0
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("a.*")}
        for name in ("here", "there")
    )
    assert here
    assert here == there
    again = call(*given, "--out", tmp_path / "there", "--isolate")
    assert again.returncode == 0, again.stderr
    if command == "score":  # files of features are made anew from the cache, of which there is none
        assert rows(tmp_path / "there")[0]["encoded_regions"] == "0"


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ("score", ["--isolate", "--dry-run"], "--dry-run looks at the slides in this process"),
        ("score", ["--isolate", "--engine", "slurm"], "--isolate is for this machine"),
        ("score", ["--isolate", "--encoder-backend", "openvino"], "has to be tried on a slide"),
        ("score", ["--give-up-after", "5"], "--give-up-after is for isolated slides"),
        ("score", ["--isolate", "--give-up-after", "0"], "--give-up-after is 0.0"),
        ("features", ["--isolate", "--engine", "slurm"], "--isolate is for this machine"),
        ("features", ["--isolate", "--encoder-backend", "openvino"], "has to be tried on a slide"),
        ("features", ["--give-up-after", "5"], "--give-up-after is for isolated slides"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    command: str,
    more: list[str],
    said: str,
) -> None:
    out = tmp_path / "run"
    done = call(command, tissue_slide, *of(command, tiny_model), "--out", out, *more)
    assert done.returncode == 2
    assert said in done.stderr
    assert not out.exists()
    assert os.listdir(tmp_path) == []
