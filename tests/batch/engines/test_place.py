"""A worker elsewhere that would make other results, or make them where nobody looks, says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xt_backend.batch import Batch, ScoreJob
from xt_backend.batch.configuration import versions
from xt_backend.batch.engines import elsewhere
from xt_backend.batch.engines.elsewhere import device_elsewhere
from xt_backend.batch.engines.place import check_place
from xt_backend.batch.engines.working import anywhere
from xt_backend.config import ScoreOptions
from xt_backend.engine import Device
from xt_backend.errors import DeviceError, EngineError, UsageError


@pytest.fixture
def job(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ScoreJob:
    """A batch that was planned with relative paths."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.safetensors").symlink_to(tiny_model)
    options = ScoreOptions(cache=Path("cache"))
    return Batch([tissue_slide], "tiny.safetensors", Path("run"), options).job


def test_a_job_does_not_depend_on_the_folder_it_is_done_in(
    job: ScoreJob,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed = anywhere(job)
    monkeypatch.chdir(tmp_path_factory.mktemp("another"))
    check_place(placed, versions())
    assert placed.options.cache == tmp_path / "cache"
    assert placed.folder is not None
    assert job.folder is not None
    assert placed.folder.ledger.path.parent == placed.folder.path == tmp_path / "run"
    assert placed.folder.call == job.folder.call
    with pytest.raises(EngineError, match="does not see the run directory run"):
        check_place(job, versions())


def test_other_versions_and_files_out_of_sight_are_refused(job: ScoreJob) -> None:
    placed = anywhere(job)
    check_place(placed, {**versions(), "python": "3.99.0", "system": "Plan9"})
    with pytest.raises(EngineError, match=r"torch .*, and the batch was planned with 1\.0"):
        check_place(placed, {**versions(), "torch": "1.0"})
    with pytest.raises(EngineError, match="has new none, and"):
        check_place(placed, {**versions(), "new": "1.0"})
    with pytest.raises(EngineError, match="does not see the model /nowhere"):
        check_place(replace(placed, model="/nowhere"), versions())


def test_a_gpu_elsewhere_is_planned_for_without_one_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(asked: str, precision: str) -> Device:
        raise DeviceError("no CUDA device")

    monkeypatch.setattr(elsewhere, "choose_device", none_here)
    planned = device_elsewhere(ScoreOptions(), True, "the jobs")
    assert planned is not None
    assert (planned.name, planned.precision) == ("cuda:0", "fp16")
    assert device_elsewhere(ScoreOptions(), False, "the jobs") is None
    assert device_elsewhere(ScoreOptions(device="cpu"), True, "the jobs") is None
    with pytest.raises(UsageError, match="torch-compile has to be tried on a GPU"):
        device_elsewhere(ScoreOptions(encoder_backend="torch-compile"), True, "the jobs")
    with pytest.raises(UsageError, match="--device cuda"):
        device_elsewhere(ScoreOptions(device="cuda:1"), True, "the jobs")
    with pytest.raises(DeviceError, match="have no GPU"):
        device_elsewhere(ScoreOptions(device="cuda"), False, "the jobs")
