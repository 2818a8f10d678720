from __future__ import annotations

import csv
import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.score_maps import CLASSES, make_score_map

from xt_backend.errors import StoreCorruptError, StoreError, UsageError
from xt_backend.keys import RegionStatus, SlideStatus
from xt_backend.outputs import (
    SlideRow,
    read_slides_csv,
    regions_frame,
    slide_values,
    slides_csv_columns,
    slides_frame,
    write_regions_csv,
    write_regions_parquet,
    write_slides_csv,
)
from xt_backend.outputs.text import escape_cell, from_visible, unescape_cell, visible
from xt_backend.store import ScoreMap

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", "'=1", "''-x"]
TEXT = st.text(max_size=12) | st.sampled_from([*FORMULAS, "a\nb", "a\0b", "\\n", "\udce4", "'a"])


@given(TEXT)
def test_cells_are_one_visible_line_no_formula_and_reversible(text: str) -> None:
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    assert from_visible(visible(text)) == text
    assert cell[:1] not in {"=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d"}
    assert len(cell.splitlines()) <= 1
    assert "\0" not in cell
    cell.encode()


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_disarmed(text: str) -> None:
    assert escape_cell(text)[0] in "'\\"


@pytest.mark.parametrize("text", ["block 7.svs", "ünïcode.svs", "'quoted'", "🔬", "a=b", ""])
def test_plain_text_stays(text: str) -> None:
    assert escape_cell(text) == text


def test_regions_csv_holds_the_score_map(tmp_path: Path) -> None:
    score_map = make_score_map()
    path = tmp_path / "x.regions.csv"
    write_regions_csv(path, score_map)
    header = "minx,miny,width,height,status,label,prob_Stroma,prob_Tumour,prob_Fat,quality"
    assert path.read_text().splitlines()[0] == header
    frame = pd.read_csv(path, keep_default_na=False, na_values={f"prob_{c}": "" for c in CLASSES})
    boxes = score_map.lattice.boxes(score_map.cells)
    np.testing.assert_array_equal(frame[["minx", "miny"]], boxes[:, :2])
    np.testing.assert_array_equal(frame[["width", "height"]], boxes[:, 2:] - boxes[:, :2])
    assert frame["status"].tolist() == [RegionStatus(s).label for s in score_map.status]
    labels = [CLASSES[i] if i >= 0 else "" for i in score_map.labels()]
    assert frame["label"].tolist() == labels
    assert frame["label"][1] == frame["label"][2] == frame["label"][3] == ""
    read = frame[[f"prob_{c}" for c in CLASSES]].to_numpy(np.float32)
    np.testing.assert_array_equal(read, score_map.probabilities)
    assert np.isnan(read[1:4]).all()


def test_regions_csv_without_regions_is_a_header(tmp_path: Path) -> None:
    path = tmp_path / "x.regions.csv"
    write_regions_csv(path, make_score_map(cells=np.empty((0, 2), np.int32)))
    assert pd.read_csv(path).shape == (0, 10)


def test_class_names_cannot_break_the_tables(tmp_path: Path) -> None:
    classes = ("=cmd()", 'a,"b"\n', "c")
    score_map = make_score_map(classes=classes, thresholds={"=cmd()": 0.0})
    path = tmp_path / "x.regions.csv"
    write_regions_csv(path, score_map)
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    assert len(rows) == 12
    assert rows[0]["label"] == "'=cmd()"
    assert unescape_cell(rows[0]["label"]) == classes[0]
    assert list(rows[0])[6:] == ["prob_=cmd()", 'prob_a,"b"\\n', "prob_c", "quality"]
    write_slides_csv(path, [SlideRow.from_score_map(score_map, 0)], classes)
    (row,), read = read_slides_csv(path)
    assert read == classes
    assert row.fractions["=cmd()"] == 1


COLUMNS = (
    "row,slide,id,status,reason,slide_mpp,mpp_source,width_px,height_px,n_regions,"
    "n_failed_regions,predicted,prob_Stroma,prob_Tumour,prob_Fat,fraction_Stroma,fraction_Tumour,"
    "fraction_Fat,seconds_read,seconds_encode,seconds_context,seconds_total,encoded_regions,cache"
)
ROWS = st.builds(
    SlideRow,
    row=st.integers(0, 10**6),
    slide=TEXT,
    id=TEXT,
    status=st.sampled_from(SlideStatus),
    reason=TEXT,
    slide_mpp=st.none() | st.floats(0.01, 10),
    mpp_source=TEXT,
    width_px=st.none() | st.integers(0, 10**9),
    predicted=st.sampled_from(["", *CLASSES]),
    probabilities=st.just({}) | st.fixed_dictionaries({c: st.floats(0, 1) for c in CLASSES}),
    fractions=st.just({}) | st.fixed_dictionaries({c: st.floats(0, 1) for c in CLASSES}),
    seconds_read=st.none() | st.floats(0, 1e9),
    cache=st.sampled_from(["", "hit", "partial", "miss"]),
)


@settings(max_examples=40)
@given(rows=st.lists(ROWS, max_size=4))
def test_slides_csv_comes_back_one_line_per_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[SlideRow]
) -> None:
    path = tmp_path_factory.getbasetemp() / "slides.csv"
    write_slides_csv(path, rows, CLASSES)
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == COLUMNS
    assert text.count("\n") == len(rows) + 1
    assert read_slides_csv(path) == (rows, CLASSES)


def test_numbers_and_names_in_slides_csv(tmp_path: Path) -> None:
    row = SlideRow(
        3, "=x.svs", "x", SlideStatus.FAILED, "no mpp", seconds_read=-0.5, fractions={"Fat": np.nan}
    )
    path = tmp_path / "slides.csv"
    write_slides_csv(path, [row], CLASSES)
    (line,) = csv.DictReader(io.StringIO(path.read_text()))
    assert line["slide"] == "'=x.svs"
    assert line["seconds_read"] == "-0.5"
    assert line["slide_mpp"] == line["fraction_Fat"] == line["prob_Fat"] == ""
    assert read_slides_csv(path)[0][0].slide == "=x.svs"


def test_a_line_of_slides_csv_without_its_number_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    write_slides_csv(path, [SlideRow(3, "x.svs", "x", SlideStatus.FAILED, "no mpp")], CLASSES)
    path.write_text(path.read_text().replace("\n3,", "\n,"))
    with pytest.raises(StoreCorruptError, match="line 2: it has no number"):
        read_slides_csv(path)


def test_rows_of_score_maps(tmp_path: Path) -> None:
    region = SlideRow.from_score_map(make_score_map(), 4, seconds_read=1.5, cache="hit")
    assert (region.row, region.id, region.slide) == (4, "block-7", "block-7.svs")
    assert (region.n_regions, region.n_failed_regions) == (12, 1)
    assert sum(region.fractions.values()) == pytest.approx(1)
    assert (region.predicted, region.probabilities) == ("", {})
    assert region.status is SlideStatus.DONE
    logits = np.array([0, 3, 0], np.float32)
    slide = SlideRow.from_score_map(make_score_map(task="slide", slide_logits=logits), 0)
    assert slide.predicted == "Tumour"
    assert slide.fractions == {}
    assert slide.probabilities["Tumour"] == pytest.approx(0.786, abs=1e-3)
    empty = make_score_map(cells=np.empty((0, 2), np.int32))
    assert SlideRow.from_score_map(empty, 0).status is SlideStatus.EMPTY
    write_slides_csv(tmp_path / "slides.csv", [SlideRow.from_score_map(empty, 0)], CLASSES)
    assert read_slides_csv(tmp_path / "slides.csv")[0][0].fractions == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n",
        COLUMNS.replace("id,", "") + "\n",
        COLUMNS + "\n1,x\n",
        COLUMNS + "\n" + "," * 23 + "\n",
        COLUMNS + "\nx,s,i,done" + "," * 20 + "\n",
        COLUMNS + "\n1,s,i,unknown" + "," * 20 + "\n",
        COLUMNS + '\n1,"s' + "," * 20,
    ],
)
def test_what_is_no_slides_csv_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slides.csv"
    path.write_text(text)
    with pytest.raises(StoreCorruptError, match=r"slides\.csv"):
        read_slides_csv(path)
    with pytest.raises(StoreError, match="cannot be read"):
        read_slides_csv(tmp_path / "none.csv")


def test_parquet_holds_the_same_and_more(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    score_map = make_score_map(quality=[0, 128, 1, 2, 4, 5, 0, 0, 0, 0, 0, 0])
    write_regions_csv(tmp_path / "x.csv", score_map)
    write_regions_parquet(tmp_path / "x.parquet", score_map)
    table = parquet.read_table(tmp_path / "x.parquet")
    frame = table.to_pandas()
    wanted = pd.read_csv(tmp_path / "x.csv")
    for name in wanted:
        if name.startswith("prob_"):
            np.testing.assert_array_equal(frame[name], wanted[name].astype(np.float32))
        else:
            assert frame[name].fillna("").tolist() == wanted[name].fillna("").tolist()
    np.testing.assert_array_equal(frame[["col", "row"]], score_map.cells)
    np.testing.assert_array_equal(
        frame["region_only_prob_Fat"], score_map.region_only_probabilities[:, 2]
    )
    assert table.column("prob_Fat").null_count == 3
    words = ["good", None, "blurred", "folded", "pen", "blurred+pen"]
    assert table.column("quality").to_pylist()[:6] == words
    assert b"block-7" in table.schema.metadata[b"napari-xt"]
    first = (tmp_path / "x.parquet").read_bytes()
    write_regions_parquet(tmp_path / "x.parquet", score_map)
    assert (tmp_path / "x.parquet").read_bytes() == first


def test_parquet_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"napari-xt\[parquet\]"):
        write_regions_parquet(tmp_path / "x.parquet", make_score_map())
    assert list(tmp_path.iterdir()) == []


def test_a_saved_map_gives_the_same_bytes(tmp_path: Path) -> None:
    score_map = make_score_map()
    score_map.save(tmp_path / "x.run.h5")
    loaded = ScoreMap.load(tmp_path / "x.run.h5")
    for name, each in (("a", score_map), ("b", loaded)):
        write_regions_csv(tmp_path / f"{name}.csv", each)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_rows_are_plain_data() -> None:
    values: dict[str, Any] = dataclasses.asdict(SlideRow(0, "s", "i", SlideStatus.DONE))
    assert values["slide_mpp"] is None
    assert values["status"] == "done"


def test_frames_have_the_columns_of_the_files_whatever_the_classes_are_called(
    tmp_path: Path,
) -> None:
    score_map = make_score_map(classes=("a\nb", "\u202eflip", "plain"), thresholds={})
    row = SlideRow.from_score_map(score_map, 0)
    values = slide_values(row, score_map.classes)
    assert list(values) == slides_csv_columns(score_map.classes)
    assert values["fraction_a\\nb"] == row.fractions["a\nb"]
    frame = slides_frame([row], score_map.classes)
    assert frame["fraction_a\\nb"].tolist() == [row.fractions["a\nb"]]
    write_regions_csv(tmp_path / "a.csv", score_map)
    write_regions_parquet(tmp_path / "a.parquet", score_map)
    columns = list(pd.read_csv(tmp_path / "a.csv").columns)
    assert list(regions_frame(score_map).columns) == columns
    assert list(pd.read_parquet(tmp_path / "a.parquet").columns)[: len(columns)] == columns
