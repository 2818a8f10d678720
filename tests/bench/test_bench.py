"""`napari-xt bench`, each benchmark on tiny sizes: what it measures is real."""

from __future__ import annotations

import json
import math
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from xt_backend.bench import list_benchmarks
from xt_backend.bench.startup import Startup
from xt_backend.model import list_contexts

Call = Callable[..., Any]
Bench = Callable[..., dict[str, Any]]


def rows_of(table: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Cells by first cell and heading; a heading that occurs twice keeps its first column."""
    found = {}
    for row in table["rows"]:
        cells: dict[str, str] = {}
        for heading, cell in zip(table["columns"], row, strict=True):
            cells.setdefault(heading, cell)
        found[row[0]] = cells
    return found


def results(out: Path, benchmark: str) -> list[dict[str, Any]]:
    document = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return [row for row in document["measurements"] if row["benchmark"] == benchmark]


def test_names_are_listed(call: Call) -> None:
    done = call("bench", "--list")
    assert done.returncode == 0
    assert done.stdout.split() == list(list_benchmarks())
    assert list(json.loads(call("bench", "--list", "--json").stdout)["benchmarks"]) == list(
        list_benchmarks()
    )
    assert {"context-cost", "context-gain", "orders", "transfer"} <= set(list_benchmarks())


def test_guide_names_every_benchmark(checkout: Path) -> None:
    text = (checkout / "docs" / "bench.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \| (?!`?images)", text, re.MULTILINE)[
        : len(list_benchmarks())
    ] == list(list_benchmarks())


def test_cost_of_context(bench: Bench, tmp_path: Path) -> None:
    printed = bench("context-cost")
    summary, seconds, memory = map(rows_of, printed["tables"]["context-cost"])
    assert set(seconds) == set(memory) == set(list_contexts())
    assert set(summary) == set(list_contexts()) - {"none", "attention"}
    exponents = {kind: row["exponent of time, 64 to 512"] for kind, row in summary.items()}
    # At these sizes the machine's other work may outweigh ours: any number, but a number.
    assert all(math.isfinite(float(value)) for value in exponents.values())
    assert all(float(row["x faster than attention at 128"]) >= 0 for row in summary.values())
    (measured,) = results(tmp_path / "out", "context-cost")
    taken = measured["values"]["seconds"]
    assert taken["none"]["512"] < taken["mamba"]["512"]
    assert set(taken["attention"]) == {"64", "128", "256"}
    peaks = [values["512"] for kind, values in measured["values"]["peak_bytes"].items() if values]
    if Path("/proc/self/clear_refs").exists():
        assert all(0 <= peak < 2**30 for peak in peaks)
        assert max(peaks) > 0
    _check_page(tmp_path / "out", tmp_path)


def test_questions(bench: Bench, tmp_path: Path) -> None:
    printed = bench("questions")
    (rows,) = map(rows_of, printed["tables"]["questions"])
    assert set(rows) == set(list_contexts())
    (measured,) = results(tmp_path / "out", "questions")
    for taken in measured["values"]["seconds"].values():
        # Model and features are loaded once.
        assert 0 < taken["what_if"] < taken["first"]
        assert taken["influence"] > 0


def _check_page(out: Path, secret: Path) -> None:
    page = (out / "benchmarks.md").read_text(encoding="utf-8")
    assert "## Time and memory of the context encoders" in page
    assert "**A quick run" in page
    assert "| transformer-xl |" in page
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert pictures == ["images/bench-context-cost.png"]
    with Image.open(out / pictures[0]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    texts = page + (out / "results.json").read_text(encoding="utf-8")
    assert str(secret) not in texts
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", texts)


@pytest.mark.timeout(900)
def test_speed(bench: Bench, tmp_path: Path, peer_python: Path) -> None:
    printed = bench("speed")
    wanted, rates, others = map(rows_of, printed["tables"]["speed"])
    assert len(wanted) == 8
    assert float(wanted["% more than swinv2_tiny_window16_256 alone"]["measured"]) > -100
    assert float(wanted["regions that it encodes"]["measured"]) == 0
    assert float(wanted["x faster than the naive loop"]["measured"]) >= 0
    measured, *_ = results(tmp_path / "out", "speed")
    values = measured["values"]
    opened = f"the same with opening, {values['again']['regions']:,} regions"
    known = {"naive loop", "tuned loop", "slide to features", "encoder alone"}
    assert set(rates) == {*known, opened}
    rate, without = (float(rates[way]["regions/s"]) for way in (opened, "slide to features"))
    assert 0 < rate < without
    assert values["reload"]["regions"] == 1000
    assert values["again"]["second"] < values["again"]["first"]
    assert {"read", "decode", "resample", "wait", "write"} <= set(values["stages"])
    assert values["stages"]["read"] > 0
    assert all(peak > 0 for peak in values["peak_bytes"].values() if peak is not None)

    assert set(others) == {"LazySlide", "TIAToolbox"}
    for row in others.values():
        assert row["x faster here"] == "-"
        assert row["remark"] == "not measured: it is not installed, see docs/bench.md"

    # Installed meanwhile: measured in the next run, and nothing else is.
    printed = bench("speed", "--peer-python", peer_python)
    assert printed["measured"] == {"speed": 2}
    others = rows_of(printed["tables"]["speed"][2])
    assert set(others) == {"LazySlide 0.0.1", "TIAToolbox 0.0.2"}
    assert float(others["LazySlide 0.0.1"]["x faster here"]) >= 0
    # The same weights and pixels; our features are kept in float16.
    apart = re.fullmatch(r"features (\S+) % apart", others["LazySlide 0.0.1"]["remark"])
    assert apart is not None
    assert 0 < float(apart[1]) < 1
    remark = others["TIAToolbox 0.0.2"]["remark"]
    assert remark == "not measured: ImportError: cannot load lib.so"
    assert results(tmp_path / "out", "speed")[0] == measured
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text(encoding="utf-8")


def test_startup(bench: Bench) -> None:
    table = rows_of(bench("startup")["tables"]["startup"][0])
    assert {what: row["under"] for what, row in table.items()} == {
        "`import xt_backend`": "0.3",
        "`napari-xt --help`": "0.6",
    }
    assert float(table["`napari-xt --help`"]["seconds"]) > 0


def test_reading(bench: Bench, tmp_path: Path) -> None:
    printed = bench("reading")["tables"]["reading"][0]
    assert [(row[0], row[1]) for row in printed["rows"]] == [
        ("aligned tiles", "1"),
        ("aligned tiles", "2"),
        ("off-grid raster", "1"),
        ("off-grid raster", "2"),
        ("off-grid raster by `Reader`", "2"),
    ]
    (measured,) = results(tmp_path / "out", "reading")
    assert all(row["openslide_us"] > 0 < row["ours_us"] for row in measured["values"]["rows"])


def test_pixels_that_openslide_reads_otherwise_end_the_benchmark(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xt_backend.bench import reading

    read = reading._theirs
    monkeypatch.setattr(reading, "_theirs", lambda raw, place: read(raw, place) ^ 1)
    with pytest.raises(AssertionError, match="reads other pixels"):
        bench("reading")


def test_large_slide(bench: Bench, tmp_path: Path) -> None:
    table = rows_of(bench("large-slide")["tables"]["large-slide"][0])
    assert {row["regions"] for row in table.values()} == {"20"}
    (measured,) = results(tmp_path / "out", "large-slide")
    for job in ("train", "predict"):
        assert 1e8 < measured["values"][job]["peak_bytes"] < 6e9


def test_screening(bench: Bench, tmp_path: Path) -> None:
    """A slide this small is not left out in part; it is said so."""
    printed = bench("screening")
    found = rows_of(printed["tables"]["screening"][0])
    assert set(found) == {"0.95", "0.9", "0.8"}
    for row in found.values():
        assert (row["screened out"], row["recall alone"]) == ("0 %", "1.000")
        assert float(row["x the time"]) >= 0
    assert len(results(tmp_path / "out", "screening")) == 3


def test_trainings_on_sample_slides(bench: Bench, tmp_path: Path) -> None:
    out, names = tmp_path / "out", ("context-gain", "slide-gain", "orders")
    printed = bench(*names, "--seeds", "1")
    assert printed["measured"] == {"context-gain": 6, "slide-gain": 6, "orders": 21}
    first = {name: results(out, name) for name in names}
    _check_gain(printed["tables"]["context-gain"][0], first["context-gain"])
    _check_slide_gain(printed["tables"]["slide-gain"][0], first["slide-gain"])
    _check_orders(printed["tables"]["orders"][0], first["orders"])

    page = (out / "benchmarks.md").read_bytes()
    assert bench(*names, "--seeds", "1")["measured"] == dict.fromkeys(names, 0)
    assert {name: results(out, name) for name in names} == first
    assert (out / "benchmarks.md").read_bytes() == page

    # Trained anew, each of them comes out the same: the features and the seed are.
    assert bench("context-gain", "--seeds", "1", "--no-resume")["measured"] == {"context-gain": 6}
    again = results(out, "context-gain")
    for head in ("context", "region_only"):
        known = [row["values"][head] for row in first["context-gain"]]
        assert [row["values"][head] for row in again] == known
    assert results(out, "orders") == first["orders"]


def _check_gain(table: dict[str, Any], measured: list[dict[str, Any]]) -> None:
    rows = rows_of(table)
    assert set(rows) == set(list_contexts())
    for row in rows.values():
        assert 0 <= float(row["F1 of both stromas"]) <= 1
    assert rows["none"]["points above `none`"] == "-"
    sizes = {row["case"]["context"]: row["values"]["parameters"] for row in measured}
    assert min(sizes, key=lambda kind: sizes[kind]) == "none"


def _check_slide_gain(table: dict[str, Any], measured: list[dict[str, Any]]) -> None:
    assert ["none", "attention-mil"] in [row[:2] for row in table["rows"]]
    assert any(row[1] == "class-token" for row in table["rows"])
    for row in measured:
        train, val, test = row["values"]["crops"]
        assert train > val > 0
        assert test > 0
        assert 0 < row["values"]["share_reactive"] < 1


def _check_orders(table: dict[str, Any], measured: list[dict[str, Any]]) -> None:
    assert table["columns"] == ["order", "mamba2", "transformer-xl", "mamba"]
    assert {"raster", "hilbert", "alternate"} <= set(rows_of(table))
    by_order = {
        row["case"]["order"]: row["values"]["context"]["auroc"]
        for row in measured
        if row["case"]["context"] == "mamba"
    }
    assert by_order["raster"] != by_order["columns"]


def test_transfer(bench: Bench, tmp_path: Path) -> None:
    printed = bench("transfer")
    (table,) = printed["tables"]["transfer"]
    assert len(table["rows"]) == 4
    small, large = results(tmp_path / "out", "transfer")
    assert large["values"]["regions"] > small["values"]["regions"] > 0
    # The bundled model is the real one, also here.
    for one in (small, large):
        assert one["values"]["context"]["reactive"] > one["values"]["region_only"]["reactive"]


def test_receptive_field(bench: Bench, tmp_path: Path) -> None:
    printed = bench("receptive-field")
    (table,) = map(rows_of, printed["tables"]["receptive-field"])
    assert "context-demo" in table
    assert {f"{kind}, untrained" for kind in list_contexts() if kind != "none"} <= set(table)
    for row in results(tmp_path / "out", "receptive-field"):
        values = row["values"]["map"]
        side = len(values)
        middle = values[side // 2][side // 2]
        assert middle == max(max(line) for line in values) == 1.0
        outside = sum(map(sum, values)) - middle
        assert math.isfinite(outside)
        assert outside > 0
    # Mamba forgets with distance, attention weighs by content alone before it has learnt.
    reach = {name: float(row["half within, um"]) for name, row in table.items()}
    assert reach["mamba, untrained"] < reach["attention, untrained"]


def test_real_sets_are_left_out_without_data(bench: Bench, tmp_path: Path) -> None:
    printed = bench("real-sets")
    assert "--data" in printed["skipped"]["real-sets"]
    assert not (tmp_path / "out" / "results.json").exists()
    (tmp_path / "empty").mkdir()
    printed = bench("real-sets", "--data", tmp_path / "empty")
    assert "empty holds none of the sets" in printed["skipped"]["real-sets"]


def test_real_sets(bench: Bench, labelled_images: Path, tmp_path: Path) -> None:
    printed = bench("real-sets", "--seeds", "1", "--data", labelled_images)
    assert printed["measured"] == {"real-sets": 2 * len(list_contexts())}
    tumour, tissue, bundled = printed["tables"]["real-sets"]
    assert {row[0] for row in tumour["rows"]} == set(list_contexts())
    assert {row[0] for row in tissue["rows"]} == set(list_contexts())
    for _, _, auroc, balanced in bundled["rows"]:
        assert float(auroc) >= 0.88
        assert float(balanced) >= 0.75
    for row in results(tmp_path / "out", "real-sets"):
        expected = (7, 25) if row["case"]["set"] == "tumour" else (4, 4)
        assert (row["values"]["images"], row["values"]["regions"]) == expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["contextcost"], "There is no benchmark 'contextcost'"),
        (["--seeds", "0"], "seeds"),
        (["real-sets", "--data", "no-such-folder"], "There is no folder no-such-folder"),
        (["speed", "--peer-python", "no/python"], "There is no Python no/python"),
    ],
)
def test_bad_usage(call: Call, tmp_path: Path, arguments: list[str], text: str) -> None:
    done = call("bench", *arguments, "--out", tmp_path / "out", "--work", tmp_path / "work")
    assert done.returncode == 2
    assert text in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*args: Any) -> None:
        pytest.fail("something was measured")

    monkeypatch.setattr(Startup, "measure", measure)
    (tmp_path / "file").write_text("no folder")
    out = tmp_path / "file" / "out"
    done = call("bench", "startup", "--quick", "--out", out)
    assert done.returncode == 5, done.stdout + done.stderr
    assert str(out) in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_results_are_not_overwritten(call: Call, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"format": 1')
    done = call("bench", "context-cost", "--quick", "--out", tmp_path)
    assert done.returncode == 3
    assert "results.json is damaged" in done.stderr
    (tmp_path / "results.json").write_text('{"format": 99, "measurements": []}')
    done = call("bench", "context-cost", "--quick", "--out", tmp_path)
    assert "format 99" in done.stderr
    assert (tmp_path / "results.json").read_text() == '{"format": 99, "measurements": []}'
