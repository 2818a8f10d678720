"""Ctrl-C and SIGTERM: a row for every slide, the documented code, and resuming."""

from __future__ import annotations

import json
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.cli import rows
from support.commands import Command
from support.injected import held_encoder
from support.slides import tissue_image, write_tiff_slide

from xt_backend.engine import BatchEncoder, extract
from xt_backend.keys import RegionStatus
from xt_backend.slides import Lattice
from xt_backend.store import RegionStore, StoreKey

PROMISED_S = 10.0
"""How soon a run that was asked to end has ended; ten times as long on a machine that is busy."""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_case_22_a_signal_stops_politely_and_the_next_run_goes_on(
    number: int, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    image = tissue_image(1024, 1024, ((0, 0, 1024, 1024),))
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a", "b"):
        write_tiff_slide(slides / f"{name}.tiff", image)
        image = image[::-1]
    out, reached, go = tmp_path / "run", tmp_path / "reached", tmp_path / "go"
    command = ["score", slides, "--model", tiny_model, "--out", out, "--cache", tmp_path / "cache",
               "--encoder-backend", "torch", "--batch-size", "4"]  # fmt: skip
    running = Command(command, tmp_path / "log", partial(held_encoder, reached, go))
    # The slide in hand is open, and the first of its regions are being encoded.
    while running.runs and not reached.exists():
        time.sleep(0.02)
    running.signal(number)
    go.touch()
    assert running.end(10 * PROMISED_S) == code, running.said
    said = running.said
    # What was under way and the batch after it, but not all of the slide.
    assert reached.stat().st_size < 4
    assert "Traceback" not in said
    table = rows(out)
    assert [row["slide"] for row in table] == ["a.tiff", "b.tiff"]
    assert {row["status"] for row in table} == {"failed"}
    assert all("Interrupted" in row["reason"] for row in table)
    report = json.loads((out / "run.json").read_text())
    assert report["state"] == "interrupted"
    counts = {"done": 0, "failed": 0, "empty": 0, "interrupted": 1, "not_started": 1}
    assert {name: report["slides"][name] for name in counts} == counts
    assert "failed" not in said.lower()
    assert "1 not started" in said
    assert "Run the same command again to go on" in said
    assert not list(out.glob("*.partial"))
    again = Command(command, tmp_path / "log")
    assert again.end() == 0, again.said
    assert [row["status"] for row in rows(out)] == ["done", "done"]


def test_a_cancel_is_heard_while_stored_regions_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xt_backend.engine.extraction.CACHED_ROWS", 2)
    cells = np.array([[i, 0] for i in range(10)], np.int32)
    store = RegionStore.open(tmp_path, StoreKey("slide", {}, {}))
    store.append(cells, np.ones((10, 1, 4), np.float16), np.full(10, RegionStatus.OK, np.uint8))
    lattice = Lattice.for_bounds((0, 0, 640, 64), (1.0, 1.0), 1.0, 64)
    heard: list[int] = []
    for part in extract(
        None,  # type: ignore[arg-type]  # nothing is read
        lattice,
        cells,
        BatchEncoder.__new__(BatchEncoder),
        store,
        cancelled=lambda: len(heard) >= 2,
    ):
        assert part.cached
        heard.append(len(part.rows))
    assert heard == [2, 2]
