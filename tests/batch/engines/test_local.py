"""Several processes of this machine write what one does, whatever becomes of one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.engines import below, files_of, gone

from xt_backend.batch import Batch, Run
from xt_backend.batch.engines import EngineOptions, open_engine
from xt_backend.config import ScoreOptions
from xt_backend.engine import Device


def test_processes_write_the_same_bytes_though_one_is_killed(
    score_with: Callable[..., Run],
    local_files: dict[str, bytes],
    slides: Path,
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        if not killed:
            worker = below("xt_backend.batch.engines.member")[0]
            killed.append(worker.pid)
            worker.kill()

    run = score_with(tmp_path / "run", kill_one, processes=2)
    assert killed
    assert run.counts == {"done": 6, "failed": 1, "empty": 0}
    assert files_of(tmp_path / "run") == local_files
    assert gone("xt_backend.batch.engines.member")
    again = Batch([slides], str(tiny_model), tmp_path / "run", ScoreOptions()).run()
    assert [row.encoded_regions for row in again.rows] == [None, 0, 0, 0, 0, 0, 0]


def test_results_come_back_where_there_is_no_folder(
    slides: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    inputs = [slides / "s0.tiff", slides / "s1.tiff"]
    options = ScoreOptions(use_cache=False)
    with open_engine(EngineOptions(processes=2), options) as engine:
        batch = Batch(inputs, str(tiny_model), None, options)
        run = batch.run(execute=engine.executor(batch.device))
    assert len(run.regions) == sum(row.n_regions or 0 for row in run.rows) > 0


@pytest.mark.parametrize(
    ("asked", "processes", "visible", "expected"),
    [
        ("auto", None, None, ["0", "1", "2"]),
        ("auto", None, "4,7", ["4", "7"]),
        ("cuda", 4, None, ["0", "1", "2", "0"]),
    ],
)
def test_each_gpu_gets_a_process_that_sees_no_other(
    asked: str,
    processes: int | None,
    visible: str | None,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from xt_backend.batch.engines.local import LocalEngine

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    execute = LocalEngine(asked, processes).executor(Device("cuda:0", "fp16", "found"))
    assert [seen["CUDA_VISIBLE_DEVICES"] for seen in execute.environments] == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(("asked", "name"), [("cuda:1", "cuda:1"), ("auto", "cpu")])
def test_one_device_is_for_this_process(asked: str, name: str) -> None:
    with open_engine(EngineOptions(), ScoreOptions(device=asked)) as engine:
        assert engine.executor(Device(name, "fp32", "")) is None
