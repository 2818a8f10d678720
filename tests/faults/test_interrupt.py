"""Ctrl-C and SIGTERM: a row for every slide, the documented code, and resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.cli import rows
from support.slides import tissue_image, write_tiff_slide

from xt_backend.engine import BatchEncoder, extract
from xt_backend.keys import RegionStatus
from xt_backend.slides import Lattice
from xt_backend.store import RegionStore, StoreKey


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_politely_and_the_next_run_goes_on(
    number: int, code: int, tiny_model: Path, tmp_path: Path
) -> None:
    image = tissue_image(2048, 2048, ((0, 0, 2048, 2048),))
    slides = tmp_path / "slides"
    slides.mkdir()
    for name in ("a", "b"):
        write_tiff_slide(slides / f"{name}.tiff", image)
        image = image[::-1]
    out, cache = tmp_path / "run", tmp_path / "cache"
    command = [
        sys.executable, "-c", "from xt_backend.cli import main; main()", "score", str(slides),
        "--model", str(tiny_model), "--out", str(out), "--cache", str(cache),
    ]  # fmt: skip
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        # The slide in hand is open, and of its 1024 regions the first are encoded.
        while not list(cache.glob("*/*/*.h5")) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(number)
        said, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert "Traceback" not in err
    table = rows(out)
    assert [row["slide"] for row in table] == ["a.tiff", "b.tiff"]
    assert table[-1]["status"] == "failed"
    assert "Interrupted" in table[-1]["reason"]
    report = json.loads((out / "run.json").read_text())
    assert report["state"] == "interrupted"
    counts = report["slides"]
    assert counts["failed"] == 0
    assert counts["interrupted"] + counts["not_started"] == 2 - counts["done"]
    assert "failed" not in said.lower()
    assert f"{counts['not_started']} not started" in said
    assert "Run the same command again to go on" in said
    assert not list(out.glob("*.partial"))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
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
