"""A batch that goes on in its folder keeps what an earlier call made, whatever ends it."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.slides import write_tissue_slide

from xt_backend.batch import Batch, FeatureBatch, Outcome, Run, Task, verify_run
from xt_backend.config import FeatureOptions, ScoreOptions
from xt_backend.errors import NoSpaceError, OutputConflictError

NAMES = ("a", "b", "c")


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    (tmp_path / "slides").mkdir()
    return [
        write_tissue_slide(tmp_path / "slides" / f"{name}.tiff", side=512 + 64 * number)
        for number, name in enumerate(NAMES)
    ]


def statuses(out: Path) -> dict[str, str]:
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: row["status"] for row in csv.DictReader(file)}


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return found


def prepare(slides: list[Path], model: Path, out: Path, **options: Any) -> Batch:
    return Batch(slides, str(model), out, ScoreOptions(**options))


def finish_all_but_a(slides: list[Path], model: Path, out: Path) -> Run:
    run = prepare(slides, model, out).run()
    assert set(statuses(out).values()) == {"done"}
    (out / "a.run.h5").unlink()
    return run


def test_interrupting_a_resume_keeps_the_slides_that_were_finished(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    finish_all_but_a(slides, tiny_model, out)
    run = prepare(slides, tiny_model, out).run(cancelled=lambda: True)
    assert run.interrupted
    assert statuses(out) == {"a": "failed", "b": "done", "c": "done"}
    assert run.counts == {
        "done": 2, "failed": 0, "empty": 0, "interrupted": 0, "not_started": 1,
    }  # fmt: skip
    assert [row.encoded_regions for row in run.rows] == [None, 0, 0]
    assert report(out)["slides"] == run.counts


def test_a_slide_that_changed_is_not_called_done_by_an_interrupted_resume(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    finish_all_but_a(slides, tiny_model, out)
    write_tissue_slide(slides[1], side=1024)
    prepare(slides, tiny_model, out).run(cancelled=lambda: True)
    assert statuses(out) == {"a": "failed", "b": "failed", "c": "done"}


def test_a_table_written_in_the_middle_of_a_resume_has_all_that_is_done(
    slides: list[Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the disk after each slide is what a kill would leave."""
    out = tmp_path / "run"
    finish_all_but_a(slides, tiny_model, out)
    (out / "slides.csv").unlink()
    monkeypatch.setattr("xt_backend.batch.table.INTERVAL_S", -1.0)
    seen: dict[str, dict[str, str]] = {}

    def look(task: Task, outcome: Outcome) -> None:
        seen[task.slide_id] = statuses(out)

    prepare(slides, tiny_model, out).run(on_outcome=look)
    # The largest file comes first, and the smallest, which is to be made anew, last.
    assert list(seen) == ["b", "c", "a"]
    assert seen["b"] == seen["c"] == {"a": "failed", "b": "done", "c": "done"}


def test_the_table_has_every_slide_before_the_first_is_begun(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    seen: list[dict[str, str]] = []
    prepare(slides, tiny_model, out).run(on_event=lambda task, told: seen.append(statuses(out)))
    assert seen[0] == dict.fromkeys(NAMES, "failed")
    assert statuses(out) == dict.fromkeys(NAMES, "done")


def test_a_resume_keeps_who_read_and_for_how_long(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = prepare(slides, tiny_model, out).run()
    before = report(out)
    told = {**before, "started": "2001-01-01T00:00:00+00:00"}
    (out / "run.json").write_text(json.dumps(told), encoding="utf-8")
    entry = out / "ledger" / "b.outcome.json"
    known = json.loads(entry.read_text(encoding="utf-8"))
    entry.write_text(json.dumps({**known, "problems": ["bad"]}), encoding="utf-8")
    again = prepare(slides, tiny_model, out).run()
    after = report(out)
    assert set(after["readers"]) == set(NAMES)
    assert after["readers"] == before["readers"]
    assert after["store_problems"] == {"b": ["bad"]}
    assert after["started"] == "2001-01-01T00:00:00+00:00"
    assert after["resumed"] > after["started"]
    assert [row.seconds_total for row in again.rows] == [row.seconds_total for row in first.rows]
    assert all(row.seconds_total for row in again.rows)
    assert [(row.encoded_regions, row.cache) for row in again.rows] == [(0, "hit")] * 3
    entry.unlink()  # as if a call had been killed before it could write it
    (out / "slides.csv").unlink()
    third = prepare(slides, tiny_model, out).run()
    seconds = [row.seconds_total for row in first.rows]
    assert [row.seconds_total for row in third.rows] == [seconds[0], None, seconds[2]]
    assert entry.is_file()


def test_a_full_disk_leaves_a_whole_table(
    slides: list[Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.outputs import write_geojson

    def full(path: Path, *args: Any) -> None:
        if path.name.startswith("c."):
            raise NoSpaceError("No space left", "Free some")
        write_geojson(path, *args)

    monkeypatch.setattr("xt_backend.batch.task.write_geojson", full)
    out = tmp_path / "run"
    with pytest.raises(NoSpaceError):
        prepare(slides, tiny_model, out).run()
    # The largest file comes first.
    assert statuses(out) == {"a": "failed", "b": "done", "c": "failed"}
    found = report(out)
    assert found["state"] == "interrupted"
    assert set(found["readers"]) == {"b"}
    counts = found["slides"]
    assert (counts["done"], counts["interrupted"], counts["not_started"]) == (1, 1, 1)


def test_features_that_were_made_stay_when_a_second_call_is_interrupted(
    slides: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = FeatureOptions(weights="random", model_mpp=1.0, region_px=64)

    def batch(some: list[Path]) -> FeatureBatch:
        return FeatureBatch(some, "tf_efficientnet_lite0", out, options)

    batch(slides[1:]).run()
    before = report(out)
    run = batch(slides).run(cancelled=lambda: True)
    assert statuses(out) == {"a": "failed", "b": "done", "c": "done"}
    assert [row.row for row in run.rows] == [0, 1, 2]
    assert report(out)["readers"] == before["readers"]
    assert os.path.isfile(out / "b.features.h5")


def test_limits_and_further_files_are_no_other_run(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    one = slides[:1]
    small = prepare(one, tiny_model, out, max_pixels=1000).run()
    assert "--max-pixels" in small.rows[0].reason
    assert prepare(one, tiny_model, out).run().rows[0].status == "done"
    more = prepare(one, tiny_model, out, layouts=("parquet",), max_failed_fraction=0.5).run()
    assert (more.rows[0].status, more.rows[0].cache) == ("done", "hit")
    assert (out / "a.regions.parquet").is_file()
    # The limits of now count, for finished slides too.
    refused = prepare(one, tiny_model, out, max_pixels=1000).run()
    assert refused.rows[0].status == "failed"


def test_a_folder_whose_configuration_names_limits_is_resumed(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    prepare(slides[:1], tiny_model, out).run()
    told = report(out)
    told["configuration"]["options"] |= {"max_pixels": 5, "layouts": []}
    (out / "run.json").write_text(json.dumps(told), encoding="utf-8")
    assert prepare(slides[:1], tiny_model, out).run().rows[0].status == "done"
    told["configuration"]["options"] = None
    (out / "run.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(OutputConflictError, match="damaged"):
        prepare(slides[:1], tiny_model, out)


def test_arguments_are_those_of_a_command_line_only(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    for name, arguments in (("script", None), ("command", ["napari-xt", "score"])):
        options = ScoreOptions(use_cache=False)
        Batch(slides[:1], str(tiny_model), tmp_path / name, options, arguments=arguments).run()
        local = json.loads((tmp_path / name / "local.json").read_text(encoding="utf-8"))
        assert local["arguments"] == arguments


@pytest.mark.parametrize("suffix", [".regions.csv", ".geojson", ".overlay.png", ".regions.parquet"])
def test_a_file_that_is_not_as_it_was_written_is_made_anew(
    suffix: str, slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    prepare(slides, tiny_model, out, layouts=("parquet",)).run()
    path = out / f"b{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert verify_run(out).problems == {
        "b": f"{path.name} is not as it was written; give the command that made it again"
    }
    others = [out / f"{name}{suffix}" for name in "ac"]
    before = [(other.stat().st_mtime_ns, other.stat().st_ino) for other in others]
    prepare(slides, tiny_model, out, layouts=("parquet",)).run()
    assert path.read_bytes() == whole
    assert [(other.stat().st_mtime_ns, other.stat().st_ino) for other in others] == before
    assert not verify_run(out).problems


def test_what_is_asked_for_later_is_known_by_content_too(
    slides: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for _ in range(2):
        prepare(slides, tiny_model, out).run()
    prepare(slides, tiny_model, out, layouts=("parquet",)).run()
    path = out / "b.regions.parquet"
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert "b" in verify_run(out).problems
    prepare(slides, tiny_model, out, layouts=("parquet",)).run()
    assert path.read_bytes() == whole
