"""The plan of a batch: names, order, rows that ask for the same thing, and its way to workers."""

from __future__ import annotations

import pickle
from pathlib import Path

from xt_backend.batch import InputRow, Inputs, ScoreJob, plan, read_inputs
from xt_backend.batch.folder import RunFolder
from xt_backend.config import ScoreOptions
from xt_backend.engine import EncoderChoice
from xt_backend.engine.encoders import Way

OPTIONS = ScoreOptions(slide_mpp=0.5)


def rows(*given: InputRow) -> Inputs:
    return Inputs(given)


def test_no_slide_is_touched_and_long_ones_come_first() -> None:
    tasks = plan(
        rows(
            InputRow(0, Path("/no/where/a.svs"), n_bytes=5),
            InputRow(1, Path("/no/where/b.svs"), n_bytes=70),
            InputRow(2, Path("/no/where/c.svs"), problem="There is none."),
            InputRow(3, Path("/no/where/d.svs"), n_bytes=70),
        ),
        OPTIONS,
    )
    assert [task.source.row for task in tasks] == [2, 1, 3, 0]


def test_the_same_stem_twice_gets_two_names_whatever_the_order_of_work() -> None:
    one, two = InputRow(0, Path("x/a.svs"), n_bytes=1), InputRow(1, Path("y/a.svs"), n_bytes=2)
    second, first = plan(rows(one, two), OPTIONS)
    assert (first.slide_id, second.slide_id) == ("a", "a-2")
    assert not first.source.problem + second.source.problem


def test_a_row_that_asks_for_the_same_thing_again_fails_and_names_the_first() -> None:
    given = rows(
        InputRow(0, Path("a.svs"), slide_mpp=0.5),
        InputRow(1, Path("a.svs"), slide_mpp=0.25),
        InputRow(2, Path("x/../a.svs")),  # --slide-mpp 0.5 makes it row 0
        InputRow(3, Path("a.svs"), roi=Path("roi.geojson")),
    )
    problems = {task.source.row: task.source.problem for task in plan(given, OPTIONS)}
    assert "row 0 is the same" in problems[2]
    assert [problems[row] for row in (0, 1, 3)] == [""] * 3
    # Of a manifest, both are named by their lines.
    told = rows(
        InputRow(0, Path("a.svs"), place="Manifest, line 2"),
        InputRow(1, Path("a.svs"), place="Manifest, line 3"),
    )
    (again, _) = plan(told, OPTIONS)
    assert again.source.problem.startswith("Manifest, line 3: The inputs name this slide twice")
    assert "Manifest, line 2 is the same" in again.source.problem
    # Without the option, the pixel size of row 2 is that of the file.
    assert not any(task.source.problem for task in plan(given, ScoreOptions()))


def test_the_size_of_a_slide_is_that_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"x" * 10)
    (tmp_path / "b.mrxs").write_bytes(b"x" * 3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "Data0001.dat").write_bytes(b"x" * 500)
    found = {row.name: row.n_bytes for row in read_inputs([tmp_path]).rows}
    assert found == {"a.svs": 10, "b.mrxs": 500}


def test_a_job_and_its_tasks_travel_to_other_processes(tmp_path: Path) -> None:
    way = Way("torch", "fp32", None)
    folder = RunFolder(tmp_path, {"command": "score"})
    job = ScoreJob(OPTIONS, folder, EncoderChoice(way, "usual"), "model.safetensors")
    task = plan(rows(InputRow(0, Path("a.svs"), slide_mpp=0.5)), OPTIONS)[0]
    there, sent = pickle.loads(pickle.dumps((job, task)))
    assert sent == task
    assert (there.options, there.model, there.choice) == (job.options, job.model, job.choice)
    assert there.folder.call == folder.call
    assert there.folder.digest(OPTIONS) == folder.digest(OPTIONS)
