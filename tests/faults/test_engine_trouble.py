"""Memory that runs out, numbers that are none, libraries that are old, and no network."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli import Call, rows

from xt_backend.model import XT, RegionEncoder
from xt_backend.slides import vulnerable
from xt_backend.store import ScoreMap

OFFLINE = """
import sys
sys.path.insert(0, sys.argv[1])
from support.injected import no_sockets
no_sockets()
import xt_backend, xt_backend.model, xt_backend.slides
from xt_backend.cli import main
for arguments in (["--help"], ["doctor"], sys.argv[2:]):
    try:
        main(arguments)
    except SystemExit as ended:
        code = ended.code
sys.exit(code)
"""


def test_case_19_nothing_asks_for_a_socket(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path, checkout: Path
) -> None:
    # Whether there is a screen is found out by a socket of this machine.
    screenless = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, checkout / "tests", "score", tissue_slide,
         "--model", tiny_model, "--out", tmp_path / "run", "--no-cache"],
        capture_output=True, text=True, env={**screenless, "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run")[0]["status"] == "done"
    assert "Usage: napari-xt" in done.stdout


def test_case_20_memory_that_runs_out_in_a_batch(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def score(name: str) -> Any:
        return call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / name,
                    "--no-cache", "--device", "cpu", "--encoder-backend", "torch")  # fmt: skip

    assert score("whole").returncode == 0
    forward, sizes = RegionEncoder.forward, []
    seen: list[str] = []

    def limited(self: RegionEncoder, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > limit and "gone on" not in seen:
            if limit == 0 and len(images) == 1:
                seen.append("gone on")  # the next slide finds memory again
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return forward(self, images)

    monkeypatch.setattr(RegionEncoder, "forward", limited)
    limit = 2
    assert score("halved").returncode == 0
    assert max(sizes) > limit
    whole, halved = (ScoreMap.load(tmp_path / n / "block.run.h5") for n in ("whole", "halved"))
    np.testing.assert_array_equal(halved.cells, whole.cells)
    np.testing.assert_array_equal(halved.status, whole.status)
    np.testing.assert_allclose(halved.logits, whole.logits, atol=1e-3)
    limit = 0
    other = Path(shutil.copy(tissue_slide, tmp_path / "other.tiff"))
    done = call("score", tissue_slide, other, "--model", tiny_model, "--out",
                tmp_path / "none", "--no-cache")  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    first, second = rows(tmp_path / "none")
    assert first["status"] == "failed"
    assert "memory" in first["reason"]
    assert (second["status"], second["n_regions"]) == ("done", "16")


def test_case_21_numbers_that_are_none(
    call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    predict = XT.predict_reduced

    def broken(self: XT, *args: Any, **kwargs: Any) -> Any:
        prediction = predict(self, *args, **kwargs)
        logits = prediction.logits.clone()
        logits[3], logits[5, 0] = torch.nan, torch.inf
        return dataclasses.replace(prediction, logits=logits)

    monkeypatch.setattr(XT, "predict_reduced", broken)
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out)
    assert done.returncode == 3, done.stdout
    assert "no number" in done.stdout
    (row,) = rows(out)
    assert row["status"] == "done"
    assert row["reason"] == "2 regions have no number (NaN)"
    found = ScoreMap.load(out / "block.run.h5")
    assert np.flatnonzero(np.isnan(found.probabilities).any(axis=1)).tolist() == [3, 5]
    with (out / "block.regions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [i for i, region in enumerate(table) if region["label"] == ""] == [3, 5]
    assert float(row["fraction_normal"]) + float(row["fraction_tumour"]) == pytest.approx(1)


def test_case_33_an_old_openslide_is_told_by_its_cve(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sound = call("doctor")
    assert "openslide" in sound.stdout
    for topic in ("python", "torch", "device", "locks", "cache"):
        assert f" {topic} " in sound.stdout
    assert "GiB free" in sound.stdout
    assert vulnerable.openslide_problem() == ""
    monkeypatch.setattr("openslide.__library_version__", "4.0.0")
    vulnerable.warn_once.cache_clear()
    try:
        done = call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run")
    finally:
        vulnerable.warn_once.cache_clear()
    assert done.returncode == 0, done.stderr
    (record,) = [one for one in caplog.records if "CVE-2026-48977" in one.getMessage()]
    assert record.levelname == "ERROR", "the command line shows nothing below"
    old = call("doctor")
    assert old.returncode == 2
    assert "CVE-2026-48977" in old.stdout
