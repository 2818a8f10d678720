"""Slides over which the decoder takes its process along: with --isolate they fail alone."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from support.cli import Call, rows
from support.commands import Command
from support.injected import deadly_decoder
from support.slides import tissue_image, write_tiff_slide

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="no signals"),
]


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Two sound slides, and between them one that kills who opens it."""
    folder = tmp_path / "slides"
    folder.mkdir()
    image = tissue_image(256, 256, ((0, 0, 256, 256),))
    for name in ("a-good", "b-deadly", "c-good"):
        write_tiff_slide(folder / f"{name}.tiff", image, levels=1)
    return folder


def score(slides: Path, model: Path, out: Path, log: Path, *more: str) -> tuple[int, str]:
    """Exit code and words of ``score`` in a process of its own, with a decoder that kills."""
    (out.parent / "site").mkdir(exist_ok=True)
    started = Command(
        ["score", slides, "--model", model, "--out", out, "--tissue", "all", *more],
        log,
        partial(deadly_decoder, out.parent / "site"),
    )
    return started.end(840), started.said


def test_case_32_a_slide_that_kills_its_decoder_fails_alone(
    slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, said = score(slides, tiny_model, out, tmp_path / "log", "--isolate")
    assert code == 3, said
    assert "Traceback" not in said
    table = {row["slide"]: row for row in rows(out)}
    deadly = table["b-deadly.tiff"]
    assert deadly["status"] == "failed"
    assert "signal 11" in deadly["reason"]
    assert "twice with this slide" in deadly["reason"]
    assert str(tmp_path) not in deadly["reason"]
    assert deadly["width_px"] == ""  # nobody looked at it again to fill its row
    for name in ("a-good.tiff", "c-good.tiff"):
        assert table[name]["status"] == "done"
        assert table[name]["n_regions"] == "4"
        assert (out / f"{Path(name).stem}.run.h5").is_file()


def test_without_it_the_decoder_takes_the_batch_along(
    slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, said = score(slides, tiny_model, tmp_path / "run", tmp_path / "log")
    assert code == -signal.SIGSEGV, said


def test_isolated_slides_give_the_same_bytes_and_are_known_again(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    image = tissue_image(256, 256, ((0, 0, 256, 256),))
    write_tiff_slide(tmp_path / "a.tiff", image, levels=1)
    command = ("score", tmp_path / "a.tiff", "--model", tiny_model, "--no-cache")
    assert call(*command, "--out", tmp_path / "here").returncode == 0
    assert call(*command, "--out", tmp_path / "there", "--isolate").returncode == 0
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("a.*")}
        for name in ("here", "there")
    )
    assert here == there
    again = call(*command, "--out", tmp_path / "there", "--isolate")
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path / "there")[0]["encoded_regions"] == "0"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dry-run"], "--dry-run looks at the slides in this process"),
        (["--engine", "slurm"], "--isolate is for this machine"),
        (["--encoder-backend", "openvino"], "has to be tried on a slide first"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--isolate", *more)
    assert done.returncode == 2
    assert said in done.stderr
    assert not out.exists()
    assert os.listdir(tmp_path) == []
