"""Slurm's jobs, as far as they can be had without a cluster: submitit runs them on this machine."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import psutil
import pytest
from support.cli import Call
from support.engines import below, files_of

from xt_backend.batch import Batch, InputRow, Task
from xt_backend.batch.engines import EngineOptions, open_engine, slurm
from xt_backend.batch.engines.shard import shares_of
from xt_backend.config import ScoreOptions
from xt_backend.errors import UsageError
from xt_backend.keys import Stopped

pytest.importorskip("submitit", reason="needs the extra slurm")

JOB = "submitit.core._submit"


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of Slurm that only write down how they were called, and say that nothing is done."""
    folder = tmp_path / "bin"
    folder.mkdir()
    said = {"sbatch": "Submitted batch job 17", "sacct": "JobID|State|NodeList", "srun": ""}
    for name in ("sbatch", "sacct", "srun", "scancel"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $@" >> {folder}/calls\necho "{said.get(name)}"\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder / "calls"


@pytest.mark.timeout(600)
def test_a_job_that_is_preempted_goes_on_and_writes_the_same_bytes(
    slides: Path,
    tiny_model: Path,
    local_files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(slides.parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(slurm, "POLL_S", 0.05)
    options = ScoreOptions(cache=tmp_path / "cache")
    out = tmp_path / "run"
    preempted: list[int] = []
    jobs: set[int] = set()

    def preempt() -> None:
        if len(list((out / "ledger").glob("*.outcome.json"))) > 2 and not preempted:
            preempted.append(below(JOB)[0].pid)
            below(JOB)[0].send_signal(signal.SIGUSR2)

    def look() -> bool:
        preempt()
        # For a moment, what a job starts has the job's own command line.
        found = {process.pid: process for process in below(JOB)}
        with contextlib.suppress(psutil.Error):
            jobs.update(pid for pid, process in found.items() if process.ppid() not in found)
        return False

    wanted = EngineOptions(engine="slurm", processes=1, slurm=("cluster=local",))
    with open_engine(wanted, options) as engine:
        batch = Batch([Path("slides")], str(tiny_model), out, options, device=engine.device)
        run = batch.run(execute=engine.executor(batch.device), cancelled=look)
    assert len(preempted) == 1
    assert len(jobs) == 2, "it was requeued once"
    assert run.counts == {"done": 6, "failed": 1, "empty": 0}
    assert files_of(out) == local_files
    assert not (tmp_path / "run.slurm").exists()
    # What is done is not handed in again.
    monkeypatch.setattr(slurm.SlurmEngine, "_executor", lambda self, logs: pytest.fail("submitted"))
    (slides / "bad.tiff").rename(tmp_path / "bad.tiff")
    try:
        with open_engine(wanted, options) as engine:
            done = sorted(slides.glob("*.tiff"))
            batch = Batch(done, str(tiny_model), out, options, device=engine.device)
            again = batch.run(execute=engine.executor(batch.device))
    finally:
        (tmp_path / "bad.tiff").rename(slides / "bad.tiff")
    assert [row.encoded_regions for row in again.rows] == [0] * 6


def test_jobs_are_an_array_that_may_be_requeued_and_is_cancelled_with_the_batch(
    slides: Path, tiny_model: Path, tmp_path: Path, fake_slurm: Path
) -> None:
    options = ScoreOptions(use_cache=False)
    wanted = EngineOptions(
        engine="slurm", processes=3, slurm=("partition=short", "cpus_per_task=2", "timeout_min=9")
    )
    asked: list[bool] = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 1

    with open_engine(wanted, options) as engine:
        batch = Batch([slides], str(tiny_model), tmp_path / "run", options)
        run = batch.run(execute=engine.executor(batch.device), cancelled=cancelled)
    assert set(run.stopped.values()) == {Stopped.NOT_STARTED}
    logs = tmp_path / "run.slurm"
    assert logs.stat().st_mode & 0o077 == 0
    script = next(logs.glob("*.sh")).read_text()
    for line in ("--array=0-2", "--partition=short", "--cpus-per-task=2", "--time=9"):
        assert f"#SBATCH {line}" in script
    assert "#SBATCH --signal=USR2@" in script
    calls = fake_slurm.read_text()
    assert calls.count("sbatch ") == 1
    assert {f"scancel 17_{number}" for number in range(3)} <= set(calls.splitlines())


def test_shares_take_about_as_long_and_hold_every_slide_once() -> None:
    sizes = [900, 500, 400, 300, 200, 100, 0]
    tasks = [Task(InputRow(i, Path(f"{i}"), n_bytes=n), f"{i}") for i, n in enumerate(sizes)]
    shares = shares_of(tasks, 3)
    assert sorted(task.slide_id for share in shares for task in share) == list("0123456")
    sums = [sum(task.source.n_bytes for task in share) for share in shares]
    assert max(sums) - min(sums) <= 200
    assert all(list(share) == sorted(share, key=lambda t: -t.source.n_bytes) for share in shares)
    assert len(shares_of(tasks[:2], 5)) == 2


def test_without_slurm_the_command_says_so_before_any_work(
    call: Call,
    tissue_slide: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = call(
        "score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run", "--engine", "slurm"
    )
    assert done.returncode == 2
    assert "no Slurm on this machine: srun is not found" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["partition", "=gpu"])
def test_what_is_no_parameter_is_refused(text: str) -> None:
    wanted = EngineOptions(engine="slurm", slurm=(text,))
    with pytest.raises(UsageError, match="KEY=VALUE"), open_engine(wanted, ScoreOptions()):
        pass


def test_a_parameter_that_slurm_does_not_know_is_named(
    slides: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options = ScoreOptions(use_cache=False)
    wanted = EngineOptions(engine="slurm", slurm=("cluster=local", "partitoin=gpu"))
    with open_engine(wanted, options) as engine:
        batch = Batch([slides / "s0.tiff"], str(tiny_model), tmp_path / "run", options)
        with pytest.raises(UsageError, match="partitoin"):
            batch.run(execute=engine.executor(batch.device))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--address", "host:6379"], "--engine ray"),
        (["--slurm", "partition=gpu"], "--engine slurm"),
        (["--engine", "dask"], "--engine is 'dask'"),
        (["--processes", "0"], "--processes is 0"),
    ],
)
def test_options_that_do_not_fit_are_bad_usage(
    flags: list[str], said: str, call: Call, tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    done = call("score", tissue_slide, "--model", tiny_model, "--out", tmp_path / "run", *flags)
    assert done.returncode == 2
    assert said in done.stderr
