"""`napari-xt diff`: what a user types, and what is then there."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import Call
from support.runs import failed, task_map, write_run

from xt_backend.keys import RunH5

KNOWN = {RunH5.META_SLIDE_IDENTITY: "content 1"}


def maps(task: str = "region", **changes: Any) -> list[Any]:
    return [task_map(task, slide_id=n, slide_name=f"{n}.svs", **changes) for n in ("s1", "s2")]


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "diff.csv").open(encoding="utf-8", newline="") as file:
        return {row["slide"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("task", ["region", "slide", "dense", "detection"])
def test_a_run_agrees_with_itself(call: Call, tmp_path: Path, task: str) -> None:
    run = write_run(tmp_path / "run", maps(task))
    done = call("diff", run, run, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "100.0% of 18 regions of the same class" in done.stdout
    assert "differ in: nothing" in done.stdout
    row = table(tmp_path / "out")["s1.svs"]
    assert float(row["same_class"]) == float(row["kappa"]) == 1
    assert float(row["mean_abs_diff"]) == 0
    assert float(row["correlation"]) == pytest.approx(1)
    assert row["n_only_a"] == row["n_only_b"] == "0"
    assert (tmp_path / "out" / "s1.diff.png").is_file()
    if task == "slide":
        assert row["predicted_a"] == row["predicted_b"] == "Tumour"
    if task == "dense":
        assert float(row["pixels_same"]) == 1
    if task == "detection":
        counts = [row[f"points_Tumour_{side}"] for side in ("a", "b", "both")]
        assert counts == ["2", "2", "2"]


def test_what_differs_is_told_in_all_forms(call: Call, tmp_path: Path) -> None:
    first = maps()
    logits = first[0].logits.copy()
    flipped = np.flatnonzero(first[0].labels() == 1)[:2]
    logits[flipped] = (9, 0, 0)
    second = [replace(first[0], logits=logits), first[1]]
    a = write_run(tmp_path / "a", first, run={"configuration": {"options": {"context": True}}})
    b = write_run(tmp_path / "b", second, run={"configuration": {"options": {"context": False}}})
    done = call("diff", a, b, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["differences"] == [{"key": "configuration.options.context", "a": True, "b": False}]
    assert found["regions"]["compared"] == 18
    assert found["regions"]["same_class"] == pytest.approx(16 / 18)
    assert found["counts"] == {"compared": 2}
    assert [row["same_class"] for row in found["slides"]] == [pytest.approx(7 / 9), 1.0]
    assert json.loads((tmp_path / "out" / "diff.json").read_text())["regions"] == found["regions"]
    with (tmp_path / "out" / "s1.diff.csv").open(encoding="utf-8", newline="") as file:
        regions = list(csv.DictReader(file))
    assert [row["same"] for row in regions].count("no") == 2
    boxes = first[0].lattice.boxes(first[0].cells[flipped])[:, :2].tolist()
    assert [[int(r["minx"]), int(r["miny"])] for r in regions if r["same"] == "no"] == boxes
    assert {(r["label_a"], r["label_b"]) for r in regions if r["same"] == "no"} == {
        ("Tumour", "Stroma")
    }
    assert set(found["written"]) == {path.name for path in (tmp_path / "out").iterdir()}
    assert str(tmp_path) not in done.stdout
    told = call("diff", a, b).stdout
    assert "context (True and False)" in told
    assert "77.8% of 9 regions" in told


def test_what_cannot_be_compared_has_a_row(call: Call, tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", maps(), [failed("f.svs", "no pixel size")])
    others = [failed("f.svs", "no pixel size"), failed("only.svs", "no slide")]
    b = write_run(tmp_path / "b", maps()[:1], others)
    (b / "s1.run.h5").write_bytes(b"damaged")
    done = call("diff", a, b, "--out", tmp_path / "out")
    assert done.returncode == 3
    rows = table(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "s1.svs": "failed",
        "s2.svs": "only_a",
        "f.svs": "failed",
        "only.svs": "only_b",
    }
    assert "s1.run.h5" in rows["s1.svs"]["reason"]
    assert rows["f.svs"]["reason"] == "failed in run A and B: no pixel size"
    assert "2 failed; 1 in run A only; 1 in run B only; no region" in done.stdout


def test_slides_are_paired_by_content_or_by_a_table(call: Call, tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [task_map("region", slide_id="old", run_meta=KNOWN)])
    b = write_run(
        tmp_path / "b", [task_map("region", slide_id="new", slide_name="new.svs", run_meta=KNOWN)]
    )
    assert call("diff", a, b, "--out", tmp_path / "out").returncode == 0
    row = table(tmp_path / "out")["block-7.svs"]
    assert (row["id_a"], row["id_b"], row["same_file"]) == ("old", "new", "yes")
    other = {RunH5.META_SLIDE_IDENTITY: "content 2"}
    c = write_run(tmp_path / "c", [task_map("region", slide_id="scan", run_meta=other)])
    refused = call("diff", a, c)
    assert refused.returncode == 2
    assert "--pairs" in refused.stderr
    (tmp_path / "pairs.csv").write_text("a,b\nold,block-7.svs\n")
    done = call("diff", a, c, "--pairs", tmp_path / "pairs.csv", "--no-pictures", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["slides"]
    assert found["same_file"] == "no"
    assert "not the same file" in found["reason"]
    (tmp_path / "pairs.csv").write_text("a,b\nold,nowhere\n")
    wrong = call("diff", a, c, "--pairs", tmp_path / "pairs.csv")
    assert wrong.returncode == 2
    assert "pairs.csv line 2: run B has no slide 'nowhere'" in wrong.stderr


def test_slides_of_one_name_are_told_apart_by_content(call: Call, tmp_path: Path) -> None:
    """Ids number them in the order of the inputs, which may be another one."""

    def scored(*slides: tuple[str, str, str]) -> list[Any]:
        return [
            task_map(
                "region",
                slide_id=slide_id,
                slide_name=name,
                run_meta={RunH5.META_SLIDE_IDENTITY: content},
            )
            for slide_id, name, content in slides
        ]

    two = scored(("s", "s.svs", "x"), ("s-2", "s.svs", "y"), ("t", "t.svs", "z"))
    a = write_run(tmp_path / "a", two)
    b = write_run(tmp_path / "b", scored(("s", "s.svs", "y"), ("t", "t.svs", "new")))
    done = call("diff", a, b, "--json")
    assert done.returncode == 3, done.stderr
    slides = json.loads(done.stdout)["slides"]
    assert [(row["id_a"], row["id_b"]) for row in slides] == [("s", ""), ("s-2", "s"), ("t", "t")]
    assert [row.get("same_file") for row in slides] == [None, "yes", "no"]
    # The same slide with two ROIs: the same content twice, and each with its own.
    c = write_run(tmp_path / "c", scored(("s", "s.svs", "x"), ("s-2", "s.svs", "x")))
    pairs = json.loads(call("diff", c, c, "--json").stdout)["slides"]
    assert [(row["id_a"], row["id_b"]) for row in pairs] == [("s", "s"), ("s-2", "s-2")]
    # Other scans of both: there is only the number to go by.
    d = write_run(tmp_path / "d", scored(("s", "s.svs", "v"), ("s-2", "s.svs", "w")))
    pairs = json.loads(call("diff", c, d, "--json").stdout)["slides"]
    assert [(row["id_a"], row["id_b"]) for row in pairs] == [("s", "s"), ("s-2", "s-2")]


def test_wrong_folders_are_refused(call: Call, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", maps())
    extracted = write_run(tmp_path / "f", [], run={"configuration": {"command": "features"}})
    (tmp_path / "empty").mkdir()
    for other, said in (
        (tmp_path / "nowhere", "There is no folder"),
        (tmp_path / "empty", "holds no finished run"),
        (extracted, "predicts nothing"),
    ):
        done = call("diff", run, other)
        assert done.returncode == 2
        assert said in done.stderr
    into_a_run = call("diff", run, run, "--out", run)
    assert into_a_run.returncode == 2
    assert not (run / "diff.csv").exists()
