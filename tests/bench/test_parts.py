"""The parts that benchmarks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.score_maps import make_score_map

from xt_backend.bench import BenchSpec, Tick, run, run_benchmarks
from xt_backend.bench.benchmark import Benchmark, Case, Result, Workplace
from xt_backend.bench.context_cost import exponent, short
from xt_backend.bench.labelled_images import SETS, encode, find_sets
from xt_backend.bench.machine import describe_conditions, describe_machines, this_machine
from xt_backend.bench.receptive_field import own_share, reach_um
from xt_backend.bench.records import Records
from xt_backend.bench.screening import recalls
from xt_backend.bench.section import Section, Table, number, spread
from xt_backend.bench.speed import Speed
from xt_backend.engine import BatchEncoder, choose_device
from xt_backend.keys import RegionStatus
from xt_backend.model import build_region_encoder


def test_exponent() -> None:
    quadratic = {1024 * n: 3.0 * n**2 for n in (1, 2, 4, 8)}
    assert exponent(quadratic, 1024, 8192) == pytest.approx(2.0)
    assert exponent(quadratic, 1024, 65536) is None
    assert [short(1024), short(65536), short(512)] == ["1k", "64k", "512"]


def test_recall_of_a_screening() -> None:
    """Of four positive regions alone one is left out, of two in context one."""
    cells = make_score_map().cells[:6]
    alone = np.array([0, 1, 1, 1, 1, 0])
    final = np.array([1, 0, 1, 0, 0, 0])
    made = {
        "classes": ("other", "tumour"),
        "colors": ("#000000", "#ffffff"),
        "thresholds": {},
        "cells": cells,
    }
    logits = {"region_only_logits": np.eye(2)[alone] * 9, "logits": np.eye(2)[final] * 9}
    full = make_score_map(**made, **logits, status=np.zeros(6, np.uint8))
    status = np.where(np.arange(6) == 2, RegionStatus.SCREENED_OUT, RegionStatus.OK)
    screened = make_score_map(**made, **logits, status=status.astype(np.uint8))
    assert recalls(full, screened, ("tumour",)) == (0.75, 0.5)
    assert recalls(full, full, ("tumour",)) == (1.0, 1.0)
    # What was not looked at is tissue of no class, and no failure.
    assert screened.fractions()["tumour"] == pytest.approx(1 / 6)
    assert sum(screened.fractions().values()) == pytest.approx(5 / 6)
    assert screened.n_failed == screened.n_nan == 0


def test_reach_of_a_known_map() -> None:
    values = np.zeros((7, 7))
    values[3, 3] = 2.0
    values[3, 4] = values[3, 2] = 3.0  # 1 region away
    values[0, 3] = 2.0  # 3 regions away
    assert own_share(values) == pytest.approx(0.2)
    assert reach_um(values, 100.0, 0.5) == 100.0
    assert reach_um(values, 100.0, 0.9) == 300.0
    alone = np.zeros((3, 3))
    alone[1, 1] = 1.0
    assert reach_um(alone, 100.0, 0.9) == 0.0


def test_tables() -> None:
    table = Table(("kind", "F1"), [["mamba", "0.9"], ["none", "0.51"]], "Caption.")
    assert table.to_markdown().splitlines() == [
        "Caption.",
        "",
        "| kind | F1 |",
        "| --- | ---: |",
        "| mamba | 0.9 |",
        "| none | 0.51 |",
    ]
    assert table.to_text().splitlines() == [
        "Caption.",
        "kind     F1",
        "mamba   0.9",
        "none   0.51",
    ]
    bare = Table(("kind",), [["mamba"]])
    assert bare.to_markdown() == "| kind |\n| --- |\n| mamba |"


def test_numbers_for_tables() -> None:
    assert number(None) == number(float("nan")) == "-"
    assert number(0.126) == "0.13"
    assert spread([0.5]) == "0.500"
    assert spread([0.5, 0.7]) == "0.600 (0.500 to 0.700)"
    assert spread([None, 0.5]) == "0.500"
    assert spread([]) == "-"


def test_a_shared_machine_says_so() -> None:
    quiet = {**this_machine(), "cores": 4, "threads": 2, "load": [1.0, 4.1]}
    busy = {**quiet, "threads": 4, "load": [3.0, 9.0]}
    assert describe_machines([quiet, busy]).count("4 cores") == 1
    assert describe_conditions([quiet]) == "Threads: 2."
    told = describe_conditions([quiet, busy])
    assert told.startswith("Threads: 2 or 4. The machine was shared with other work")
    assert "load average 1.0 to 9.0" in told
    assert describe_conditions([{**quiet, "load": [None, None]}]) == "Threads: 2."


def test_measurements_survive_the_file(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add("cost", {"dim": 4}, {"seed": 0}, {"seconds": 0.25, "map": [[1.0]]}, {"cores": 2})
    records.add("cost", {"dim": 8}, {"seed": 0}, {"seconds": 1.0}, {"cores": 2})
    records.add("cost", {"dim": 4}, {"seed": 1}, {"seconds": float("nan")}, {"cores": 2})
    found = Records(tmp_path)
    assert [one.values for one in found.results("cost", {"dim": 4})] == [
        {"seconds": 0.25, "map": [[1.0]]},
        {"seconds": None},
    ]
    assert [one.case for one in found.results("cost", {"dim": 4})] == [{"seed": 0}, {"seed": 1}]
    assert found.results("gain", {"dim": 4}) == []
    found.add("cost", {"dim": 4}, {"seed": 0}, {"seconds": 0.5}, {"cores": 2})
    assert {one.values["seconds"] for one in Records(tmp_path).results("cost", {"dim": 4})} == {
        0.5,
        None,
    }


def test_two_runs_add_to_one_file(tmp_path: Path) -> None:
    first, second = Records(tmp_path), Records(tmp_path)
    first.add("cost", {}, {"seed": 0}, {}, {})
    second.add("cost", {}, {"seed": 1}, {}, {})
    assert len(Records(tmp_path).results("cost", {})) == 2


def test_a_run_that_was_broken_off_goes_on(tmp_path: Path, work: Path) -> None:
    spec = BenchSpec(names=("receptive-field",), out=tmp_path, quick=True, seeds=1, work=work)

    def stop(tick: Tick) -> None:
        if tick.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_benchmarks(spec, stop)
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "| context-demo |" in page
    assert "| attention, untrained |" not in page
    report = run_benchmarks(spec)
    assert report.measured == {"receptive-field": 4}
    assert "| attention, untrained |" in (tmp_path / "benchmarks.md").read_text(encoding="utf-8")


def test_what_does_not_last_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Benchmark):
        name, title = "odd", "Odd"
        there = False

        def recipe(self, quick: bool) -> dict[str, Any]:
            return {"quick": quick}

        def cases(self, spec: BenchSpec) -> list[Case]:
            return [{}, {"peer": "lazyslide"}]

        def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
            return {"seconds": 1.0} if self.there or not case else {"reason": "not there"}

        def section(self, results: Sequence[Result], quick: bool) -> Section:
            return Section(self.title, [], [])

        is_lasting = Speed.is_lasting

    odd = Odd()
    monkeypatch.setattr(run, "get_benchmark", lambda name: odd)
    monkeypatch.setattr(run, "list_benchmarks", lambda: ("odd",))
    spec = BenchSpec(names=("odd",), out=tmp_path)
    assert run_benchmarks(spec).measured == {"odd": 2}
    assert run_benchmarks(spec).measured == {"odd": 1}
    odd.there = True
    assert run_benchmarks(spec).measured == {"odd": 1}
    odd.there = False
    assert run_benchmarks(spec).measured == {"odd": 0}


def test_labelled_images_become_regions(labelled_images: Path) -> None:
    found = find_sets(labelled_images)
    assert set(found) == {"tumour", "tissue"}
    how = next(one for one in SETS if one.name == "tumour")
    net = build_region_encoder("test_resnet", region_px=how.region_px, weights="random")
    encoded = encode(found["tumour"], how, BatchEncoder(net, choose_device("cpu")), print)
    roi = next(one for one in encoded if one.source.name == "a.png")
    # 256 px at 0.25 um/px are one region of 64 um, half tumour.
    np.testing.assert_allclose(roi.shares, [[0.5, 0.5]])
    np.testing.assert_allclose(roi.positions_um, [[32.0, 32.0]])
    patch = next(one for one in encoded if one.source.name == "b.png")
    np.testing.assert_allclose(patch.shares[:, 1], [1.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(patch.positions_um, [[32, 32], [96, 32], [32, 96], [96, 96]])
    # Runs of five neighbours are held out together.
    folds = [one.fold for one in encoded]
    assert folds == [0, 1, 1, 1, 1, 1, 2]


def test_tiles_are_held_out_class_by_class(labelled_images: Path) -> None:
    tiles = find_sets(labelled_images)["tissue"]
    assert [(one.label, one.fold) for one in tiles] == [
        ("DARK", 0),
        ("DARK", 1),
        ("PALE", 0),
        ("PALE", 1),
    ]
