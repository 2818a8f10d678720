"""Long batches with bad slides among them: each has its row, and only they are tried again."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import pytest
from support.cli import Call, rows
from support.run_files import check_same, result_of
from support.slides import tissue_image, write_tiff_slide

from xt_backend.batch import Batch, Job, Outcome, Task
from xt_backend.batch.job import Watch
from xt_backend.config import ScoreOptions
from xt_backend.keys import RunFile, SlideStatus, Stopped
from xt_backend.outputs import SlideRow


def test_case_35_a_long_manifest_with_bad_slides(
    call: Call, tiny_model: Path, tmp_path: Path
) -> None:
    slide = write_tiff_slide(tmp_path / "x.tiff", tissue_image(64, 64, ()), levels=1)
    n, bad = 50, {7, 40}
    for i in range(n):
        (tmp_path / f"{i}.tiff").write_bytes(b"" if i in bad else slide.read_bytes())
    (tmp_path / "list.csv").write_text("slide\n" + "".join(f"{i}.tiff\n" for i in range(n)))
    out = tmp_path / "run"
    command = ("score", tmp_path / "list.csv", "--model", tiny_model, "--out", out)
    done = call(*command)
    assert done.returncode == 3, done.stderr
    table = rows(out)
    assert [row["slide"] for row in table] == [f"{i}.tiff" for i in range(n)]
    assert {int(row["row"]) for row in table if row["status"] == "failed"} == bad
    assert {row["reason"] for row in table if row["status"] == "failed"} == {
        f"Manifest, line {i + 2}: the file is empty (0 bytes). "
        "Copy the slide again from its source."
        for i in bad
    }
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.run.h5")}
    for i in bad:
        (tmp_path / f"{i}.tiff").write_bytes(slide.read_bytes())
    before = result_of(out)
    assert call(*command).returncode == 0
    # Only what had failed was made.
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    after = result_of(out)
    check_same({name: after[name] for name in before if name.endswith(".h5")},
               {name: before[name] for name in before if name.endswith(".h5")})  # fmt: skip


EVERY = 100
"""So many slides there are to each that is not there."""


def pretend(
    job: Job, tasks: Sequence[Task], watch: Watch, cancelled: Callable[[], bool]
) -> Iterator[tuple[Task, Outcome | Stopped]]:
    """Bad slides are done as always; of good ones what they leave is written, and no more."""
    assert job.folder is not None
    with job.worker() as worker:
        for task in tasks:
            if task.source.problem:
                yield task, worker.run(task)
                continue
            row = SlideRow(
                task.source.row, task.name, task.slide_id, SlideStatus.DONE, n_regions=7,
                fractions={"normal": 0.25, "tumour": 0.75}, seconds_total=1.5,
            )  # fmt: skip
            digest = job.folder.digest(task.own_options(job.options))
            outcome = Outcome(row, reader="direct", seconds={"read": 1.0}, configuration=digest)
            job.folder.note(outcome)
            job.folder.file(task.slide_id, RunFile.SCORE_MAP).touch()
            yield task, outcome


@pytest.mark.parametrize("n", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_case_35_thousands_of_slides_and_one_in_a_hundred_bad(
    call: Call, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """All but the slides: plan, ledger, tables, summary, trying again. scripts/bench_batch.py has
    ten thousand that are scored.
    """
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # what is lost with the power is not asked
    names = [f"slide{i:05}.tiff" for i in range(n)]
    bad = names[EVERY - 1 :: EVERY]
    for name in set(names) - set(bad):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("\n".join(["slide", *names]) + "\n")
    out = tmp_path / "run"
    options = ScoreOptions(encoder_backend="torch", use_cache=False)

    def batch(**more: bool) -> Batch:
        return Batch([tmp_path / "list.csv"], str(tiny_model), out, options, **more)

    held: list[int] = []
    tracemalloc.start()
    try:
        run = batch().run(
            on_outcome=lambda task, outcome: held.append(tracemalloc.get_traced_memory()[0]),
            execute=pretend,
        )
    finally:
        tracemalloc.stop()
    assert run.exit_code == 3
    assert run.counts == {"done": n - len(bad), "failed": len(bad), "empty": 0}
    # A row and what is known of it, but no map, no picture and no features. The median, as what a
    # thread of an earlier test or a late import takes comes once and does not grow with the slides.
    growth = [(later - sooner) / EVERY for sooner, later in zip(held, held[EVERY:], strict=False)]
    assert median(growth[n // 4 :]) < 8192
    table = rows(out)
    assert [row["slide"] for row in table] == names
    assert [row["slide"] for row in table if row["status"] == "failed"] == bad
    summed_up = call("summarise", out)
    assert summed_up.returncode == 3
    assert f"{n - len(bad):,} done, {len(bad):,} failed" in summed_up.stdout
    for name in bad:
        said = rf"{name}: FAILED: Manifest, line \d+: There is no file or folder {name}"
        assert re.search(said, summed_up.stdout)

    before = {path.name: path.stat().st_mtime_ns for path in (out / "ledger").iterdir()}
    for name in bad[1:]:
        (tmp_path / name).touch()
    retry = batch(retry_failed=True)
    assert sorted(task.name for task in retry.todo) == bad
    again = retry.run(execute=pretend)
    assert again.exit_code == 3
    assert again.counts == {"done": n - 1, "failed": 1, "empty": 0}
    after = {path.name: path.stat().st_mtime_ns for path in (out / "ledger").iterdir()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"plan.json", *(f"{Path(name).stem}.outcome.json" for name in bad)}
