"""One bad slide never ends a batch, whatever is wrong with it."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import Call, rows

from xt_backend.cli.app import _Brief
from xt_backend.errors import NoSpaceError

FEATURES = ("--encoder", "tf_efficientnet_lite0", "--weights", "random", "--model-mpp", "1.0",
            "--region-px", "64")  # fmt: skip


@pytest.fixture
def manifest(tissue_slide: Path, tmp_path: Path) -> Path:
    """Two slides, the first with a ROI that is no GeoJSON."""
    (tmp_path / "good.tiff").write_bytes(tissue_slide.read_bytes())
    (tmp_path / "roi.geojson").write_text("{not json")
    path = tmp_path / "list.csv"
    path.write_text(f"slide,roi\n{tissue_slide},roi.geojson\ngood.tiff,\n")
    return path


def state(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["state"])


@pytest.mark.parametrize("command", ["score", "features"])
def test_a_bad_roi_in_a_manifest_fails_its_row_only(
    call: Call, command: str, manifest: Path, tiny_model: Path, tmp_path: Path
) -> None:
    more = FEATURES if command == "features" else ("--model", tiny_model)
    done = call(command, manifest, *more, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    first, second = rows(tmp_path / "run")
    assert (first["status"], second["status"]) == ("failed", "done")
    assert "roi.geojson" in first["reason"]
    assert str(tmp_path) not in first["reason"]
    assert state(tmp_path / "run") == "finished"


@pytest.mark.parametrize("command", ["score", "features"])
def test_an_error_of_our_own_making_fails_its_row_only(
    call: Call,
    command: str,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    where = "write_features" if command == "features" else "write_overlay"
    room = "feature_job" if command == "features" else "task"
    module = importlib.import_module(f"xt_backend.batch.{room}")

    whole = getattr(module, where)

    def explode(*args: Any) -> Any:
        if "block" in [getattr(one, "slide_id", "") for one in args]:
            raise RuntimeError("a bug")
        return whole(*args)

    monkeypatch.setattr(module, where, explode)
    good = tmp_path / "good.tiff"
    good.write_bytes(tissue_slide.read_bytes())
    more = FEATURES if command == "features" else ("--model", tiny_model)
    done = call(command, tissue_slide, good, *more, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    first, second = rows(tmp_path / "run")
    assert (first["status"], second["status"]) == ("failed", "done")
    assert "RuntimeError: a bug" in first["reason"]
    (record,) = [one for one in caplog.records if one.name == "xt_backend.batch.task"]
    assert "block.tiff failed" in record.getMessage()
    assert "Traceback" in logging.Formatter().format(record)
    record.exc_text = None
    assert "Traceback" not in _Brief().format(record)


def test_a_full_disk_still_ends_it(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, *args: Any) -> None:
        raise NoSpaceError(f"No space left to write {path}", "Free some")

    monkeypatch.setattr("xt_backend.batch.task.write_geojson", full)
    done = call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 5
    assert "No space left" in done.stderr


def test_parquet_without_pyarrow_is_refused_before_any_work(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "run"
    done = call("score", tissue_slide, "--model", tiny_model, "--out", out, "--layouts", "parquet")
    assert done.returncode == 2
    assert "pyarrow" in done.stderr
    assert not out.exists()


def test_memory_that_runs_out_in_torch_has_a_way_out(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def predict(*args: Any) -> None:
        # The words of torch's allocator for the CPU.
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 999 bytes. Error code 12 (Cannot allocate memory)"
        )

    monkeypatch.setattr("xt_backend.model.XT.predict_reduced", predict)
    done = call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run")
    assert done.returncode == 3
    (row,) = rows(tmp_path / "run")
    assert "block.tiff does not fit into the memory" in row["reason"]
    assert "--roi" in row["reason"]
    assert "--device cpu" in row["reason"]
    assert "report" not in row["reason"]
