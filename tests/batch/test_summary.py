"""The tables of a run made from what each slide left, and what failed tried again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.cli import Call, rows
from support.slides import write_tissue_slide

from xt_backend.batch import Batch, FeatureBatch, Run, summarise
from xt_backend.config import FeatureOptions, ScoreOptions
from xt_backend.errors import BackendDiedError, InputNotFoundError, UsageError

OWN_TIME = ("ended", "seconds", "peak_memory_bytes")


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    """Two small slides, and a third one that is none."""
    (tmp_path / "slides").mkdir()
    good = [write_tissue_slide(tmp_path / "slides" / f"{name}.tiff", side=512) for name in "ab"]
    broken = tmp_path / "slides" / "c.svs"
    broken.write_bytes(b"no slide")
    return [*good, broken]


@pytest.fixture
def finished(slides: list[Path], tiny_model: Path, tmp_path: Path) -> Path:
    run = batch(slides, tiny_model, tmp_path / "run").run()
    assert run.counts == {"done": 2, "failed": 1, "empty": 0}
    return tmp_path / "run"


def batch(slides: list[Path], model: Path, out: Path, **more: Any) -> Batch:
    return Batch(slides, str(model), out, ScoreOptions(encoder_backend="torch"), **more)


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if name not in OWN_TIME}


def times(out: Path, slide_id: str) -> dict[str, int]:
    files = [*out.glob(f"{slide_id}.*"), *(out / "ledger").glob(f"{slide_id}.*")]
    assert files
    return {path.name: path.stat().st_mtime_ns for path in files}


def test_the_tables_come_back_from_the_files_of_the_slides(
    finished: Path, slides: list[Path], tiny_model: Path, call: Call
) -> None:
    table, told = (finished / "slides.csv").read_bytes(), report(finished)
    (finished / "slides.csv").unlink()
    (finished / "run.json").unlink()
    refused = call("score", *slides, "--model", tiny_model, "--out", finished)
    assert refused.returncode == 2
    assert "napari-xt summarise" in refused.stderr
    shutil.rmtree(slides[0].parent)
    done = call("summarise", finished, "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["counts"] == told["slides"]
    assert (finished / "slides.csv").read_bytes() == table
    assert report(finished) == told


@pytest.mark.parametrize("layout", ["xt", "trident"])
def test_features_are_summarised_and_tried_again_too(
    slides: list[Path], tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "features"
    options = FeatureOptions(weights="random", model_mpp=1.0, region_px=64, layout=layout)

    def extraction(**more: Any) -> FeatureBatch:
        return FeatureBatch(slides, "tf_efficientnet_lite0", out, options, **more)

    extraction().run()
    table, told = (out / "slides.csv").read_bytes(), report(out)
    assert told["slides"] == {"done": 2, "failed": 1, "empty": 0}
    assert summarise(out).counts == told["slides"]
    assert (out / "slides.csv").read_bytes() == table
    assert report(out) == told
    assert [task.slide_id for task in extraction(retry_failed=True).todo] == ["c"]
    shutil.rmtree(out / "ledger")
    assert len(extraction(retry_failed=True).todo) == 3


def test_workers_of_their_own_leave_a_whole_run(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    """As on a cluster: the plan is published, others do the slides, the tables come last."""
    out = tmp_path / "run"
    planned = batch(slides, tiny_model, out)
    planned.publish_plan()
    assert summarise(out).counts["not_started"] == 3
    with planned.job.worker() as worker:
        outcomes = {
            task.slide_id: worker.run(task) for task in planned.todo if task.slide_id != "b"
        }
    assert outcomes["a"].score_map is None  # it is in its file
    lost = next(task for task in planned.todo if task.slide_id == "b")
    assert [row.status for row in summarise(out).rows] == ["done", "failed", "failed"]
    planned.job.failed(lost, BackendDiedError("Two workers died over it", "Look at their logs"))
    run = summarise(out)
    assert (run.interrupted, run.exit_code) == (False, 3)
    assert "Two workers died" in rows(out)[1]["reason"]
    assert report(out)["state"] == "finished"


def test_a_result_counts_only_with_its_file(finished: Path) -> None:
    (finished / "b.run.h5").unlink()
    run = summarise(finished)
    assert [row.status for row in run.rows] == ["done", "failed", "failed"]
    assert run.counts["not_started"] == 1
    assert "Run the same command again" in rows(finished)[1]["reason"]
    assert report(finished)["state"] == "interrupted"


def test_a_damaged_entry_loses_no_result(finished: Path) -> None:
    before = rows(finished)[0]
    (finished / "ledger" / "a.outcome.json").write_text('{"schema": 1}')
    run = summarise(finished)
    assert [row.status for row in run.rows] == ["done", "done", "failed"]
    after = rows(finished)[0]
    assert after["seconds_total"] == ""  # only the entry knew
    kept = ("id", "n_regions", "fraction_tumour", "slide_mpp", "width_px")
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError):
        summarise(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no ledger"):
        summarise(tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_failures_are_tried_again(
    finished: Path, slides: list[Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: times(finished, name) for name in "abc"}
    shutil.copy(slides[0], slides[2])  # put right
    again = batch(slides, tiny_model, finished, retry_failed=True)
    assert [task.slide_id for task in again.todo] == ["c"]

    opened = []
    from xt_backend.batch import task as tasks

    real = tasks.open_slide
    monkeypatch.setattr(tasks, "open_slide", lambda path: opened.append(path) or real(path))
    run: Run = again.run()
    assert opened == [slides[2]]
    assert run.counts == {"done": 3, "failed": 0, "empty": 0}
    assert run.exit_code == 0
    assert {name: times(finished, name) for name in "ab"} == {n: before[n] for n in "ab"}
    assert times(finished, "c") != before["c"]
    assert [row["status"] for row in rows(finished)] == ["done"] * 3
    assert report(finished)["slides"] == run.counts


def test_a_corrected_row_of_a_manifest_is_no_finished_work(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    manifest, out = tmp_path / "list.csv", tmp_path / "run"
    manifest.write_text("slide,slide_mpp\nslides/a.tiff,0.5\nslides/b.tiff,0.5\n")
    batch([manifest], tiny_model, out).run()
    manifest.write_text("slide,slide_mpp\nslides/a.tiff,0.5\nslides/b.tiff,0.6\n")
    again = batch([manifest], tiny_model, out, retry_failed=True)
    assert [task.slide_id for task in again.todo] == ["b"]


def test_there_must_be_failures_to_try_again(
    call: Call, slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    done = call("score", slides[0], "--model", tiny_model, "--out", out, "--retry-failed")
    assert done.returncode == 2
    assert "holds no run" in done.stderr
