"""Features are made by the same engines as scores, and are the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.cli import Call
from support.engines import below, files_of

import xt_backend as xt
from xt_backend.batch import FeatureBatch, Run
from xt_backend.batch.configuration import versions
from xt_backend.batch.engines.place import check_place
from xt_backend.batch.engines.working import anywhere
from xt_backend.config import FeatureOptions
from xt_backend.errors import EngineError, UsageError

ENCODER = "tf_efficientnet_lite0"
OPTIONS: dict[str, Any] = {"weights": "random", "region_px": 64}
COUNTS = {"done": 6, "failed": 1, "empty": 0}


@pytest.fixture
def extract(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, bytes]]:
    """Makes features of the slides, all paths relative, without a cache."""
    monkeypatch.chdir(slides.parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(name: str, **how: Any) -> dict[str, bytes]:
        made: Run = xt.features(
            "slides", ENCODER, tmp_path / name, **OPTIONS, use_cache=False, **how
        )
        assert made.counts == COUNTS
        return files_of(tmp_path / name)

    return run


@pytest.mark.timeout(600)
def test_processes_make_the_features_that_one_makes(
    extract: Callable[..., dict[str, bytes]], slides: Path, tmp_path: Path
) -> None:
    here = extract("here")
    assert len(here) > 6
    assert extract("there", processes=2) == here
    assert below("xt_backend.batch.engines.member") == []
    # What is there is known by its ledger, whoever made it.
    options = FeatureOptions(**OPTIONS, use_cache=False)
    again = FeatureBatch([slides], ENCODER, tmp_path / "there", options, retry_failed=True)
    assert [task.slide_id for task in again.todo] == ["bad"]


@pytest.mark.timeout(600)
def test_jobs_of_slurm_make_them_too(
    extract: Callable[..., dict[str, bytes]], call: Call, tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    here = extract("here", layout="h5", level="slide")
    done = call(
        "features", "slides", "--encoder", ENCODER, "--weights", "random", "--region-px", 64,
        "--layout", "h5", "--level", "slide", "--no-cache", "--out", tmp_path / "there",
        "--engine", "slurm", "--slurm", "cluster=local", "--processes", 1, "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["counts"] == COUNTS
    assert files_of(tmp_path / "there") == here


@pytest.mark.timeout(600)
def test_scores_from_the_library_may_come_from_processes(
    slides: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    two = [slides / "s0.tiff", slides / "s1.tiff"]
    here = xt.score(two, str(tiny_model), use_cache=False)
    there = xt.score(two, str(tiny_model), processes=2, use_cache=False)
    assert there.regions.equals(here.regions)
    assert len(there.regions) > 0


def test_options_of_engines_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--engine slurm"):
        xt.features("slide.tiff", ENCODER, tmp_path / "out", slurm=("partition=gpu",))
    with pytest.raises(UsageError, match="engine is 'dask'"):
        xt.score("slide.tiff", "context-demo", engine="dask")
    assert not (tmp_path / "out").exists()


def test_a_worker_with_another_encoder_refuses_the_job(slides: Path, tmp_path: Path) -> None:
    options = FeatureOptions(**OPTIONS)
    job = FeatureBatch([slides / "s0.tiff"], ENCODER, tmp_path / "run", options).job
    with job.worker() as worker:
        worker.ready()
    other = replace(job, options=options.model_copy(update={"tokens_per_region": 2}))
    with other.worker() as worker, pytest.raises(EngineError, match="not the encoder of the plan"):
        worker.ready()


def test_a_file_of_weights_is_sent_with_its_whole_path(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = FeatureBatch([slides / "s0.tiff"], ENCODER, Path("run"), FeatureOptions(**OPTIONS)).job
    assert anywhere(job).options.weights == "random"
    named = {"weights": "encoder.safetensors"}
    placed = anywhere(replace(job, options=job.options.model_copy(update=named)))
    assert placed.options.weights == str(tmp_path / "encoder.safetensors")
    with pytest.raises(EngineError, match=r"does not see the file of weights .*encoder"):
        check_place(placed, versions())
