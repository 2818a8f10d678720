from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.score_maps import make_score_map

from xt_backend.errors import StoreCorruptError, StoreError, StoreVersionError, UsageError
from xt_backend.keys import Doubt, RegionStatus, RunMeta
from xt_backend.slides.lattice import Lattice
from xt_backend.store import ScoreMap
from xt_backend.store.labels import winners

SLIDE_LOGITS = np.array([0.5, 2, -1], np.float32)


def assert_equal(a: ScoreMap, b: ScoreMap) -> None:
    for field in dataclasses.fields(ScoreMap):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other, err_msg=field.name)
        else:
            assert mine == other, field.name


@pytest.mark.parametrize(
    "score_map",
    [
        make_score_map(),
        make_score_map(task="slide", slide_logits=SLIDE_LOGITS, partial=True),
        make_score_map(cells=np.empty((0, 2), np.int32), slide_name="ünï\udce4.svs", run_meta={}),
    ],
)
def test_what_is_saved_comes_back(tmp_path: Path, score_map: ScoreMap) -> None:
    path = tmp_path / "x.run.h5"
    score_map.save(path)
    first = path.read_bytes()
    loaded = ScoreMap.load(path)
    assert_equal(loaded, score_map)
    loaded.save(path)
    assert path.read_bytes() == first
    assert_equal(pickle.loads(pickle.dumps(score_map)), score_map)


def test_no_path_is_inside(tmp_path: Path) -> None:
    folder = tmp_path / "DOE^JOHN"
    folder.mkdir()
    meta = {
        "slide": str(folder / "x.svs"),
        "nested": [{"path": folder / "y.svs", "windows": "C:\\DOE^JOHN\\z.svs"}],
        str(folder / "key"): "file:///DOE^JOHN/x",
    }
    score_map = make_score_map(run_meta=meta)
    assert score_map.run_meta == {
        "slide": "x.svs",
        "nested": [{"path": "y.svs", "windows": "z.svs"}],
        "key": "x",
    }
    score_map.save(folder / "x.run.h5")
    assert b"DOE^JOHN" not in (folder / "x.run.h5").read_bytes()
    with pytest.raises(UsageError, match="file name"):
        make_score_map(slide_name=str(folder / "x.svs"))


def test_probabilities_are_the_softmax_of_logits_over_temperature(tmp_path: Path) -> None:
    score_map = make_score_map()
    powers = np.exp(score_map.logits / 1.5)
    wanted = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(score_map.probabilities, wanted, rtol=1e-5)
    powers = np.exp(score_map.region_only_logits / 1.5)
    wanted = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(score_map.region_only_probabilities, wanted, rtol=1e-5)
    score_map.save(tmp_path / "x.run.h5")
    with h5py.File(tmp_path / "x.run.h5") as file:
        np.testing.assert_array_equal(file["probabilities"], score_map.probabilities)
        np.testing.assert_array_equal(file["logits"], score_map.logits)


def test_large_logits_do_not_overflow() -> None:
    logits = np.full((4, 3), 3e38, np.float32)
    logits[:, 1] = -3e38
    probabilities = make_score_map(cells=np.array([(i, 0) for i in range(4)]), logits=logits)
    np.testing.assert_array_equal(probabilities.probabilities[0], [0.5, 0, 0.5])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_no_label(tmp_path: Path, bad: float) -> None:
    logits = make_score_map().logits.copy()
    logits[5:8, 1] = bad
    score_map = make_score_map(logits=logits)
    score_map.save(tmp_path / "x.run.h5")
    for each in (score_map, ScoreMap.load(tmp_path / "x.run.h5")):
        assert each.n_nan == 4
        assert np.isnan(each.logits[5:8]).all()
        assert np.isnan(each.probabilities[5:8]).all()
        assert (each.labels()[[1, 2, 3, 5, 6, 7]] == -1).all()
        assert (each.labels()[[0, 4, 8, 9, 10, 11]] >= 0).all()
    assert np.isfinite(score_map.region_only_logits[5:8]).all()
    assert (score_map.labels(region_only=True)[5:8] >= 0).all()
    slide = make_score_map(task="slide", slide_logits=np.array([1, bad, 2], np.float32))
    assert slide.slide_label == ""
    assert np.isnan(slide.slide_probabilities).all()


def test_unscored_regions_never_have_scores() -> None:
    status = make_score_map().status.copy()
    status[4:6] = RegionStatus.SKIPPED
    score_map = make_score_map(status=status, logits=np.ones((12, 3)))
    assert np.isnan(score_map.logits[[1, 2, 4, 5]]).all()
    assert score_map.n_failed == 1
    counts = score_map.status_counts()
    assert counts[RegionStatus.SKIPPED] == 3
    assert sum(counts.values()) == len(score_map) == 12


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "winner"),
    [
        ([0.5, 0.3, 0.2], [None, None, None], 0),
        ([0.5, 0.3, 0.2], [None, 0.3, None], 1),
        ([0.5, 0.3, 0.2], [None, 0.31, None], 0),
        ([0.5, 0.3, 0.2], [0.45, 0.2, 0.15], 1),
        ([0.2, 0.3, 0.5], [None, 0.1, 0.45], 1),
        ([0.4, 0.4, 0.2], [None, None, None], 0),
        ([np.nan, 0.4, 0.2], [None, 0.1, None], -1),
    ],
)
def test_the_label_rule(
    probabilities: list[float], thresholds: list[float | None], winner: int
) -> None:
    values = np.array([probabilities], np.float32)
    limits = np.array([np.nan if t is None else t for t in thresholds], np.float32)
    assert winners(values, limits).tolist() == [winner]


@given(
    hnp.arrays(np.float32, (5, 3), elements=st.floats(0, 1, width=32)),
    st.lists(st.one_of(st.none(), st.floats(0, 1, width=32)), min_size=3, max_size=3),
)
def test_the_label_rule_against_its_words(
    probabilities: np.ndarray[Any, Any], limits: list[float | None]
) -> None:
    thresholds = np.array([np.nan if t is None else t for t in limits], np.float32)
    labels = winners(probabilities, thresholds)
    for row, label in zip(probabilities, labels.tolist(), strict=True):
        margins = row - thresholds
        passed = [c for c in range(3) if margins[c] >= 0]
        scores = margins if passed else row
        best = max(scores[c] for c in passed or range(3))
        assert label == next(c for c in passed or range(3) if scores[c] == best)


def test_thresholds_of_the_map_are_used() -> None:
    score_map = make_score_map(thresholds={})
    by_argmax = score_map.logits.argmax(axis=1)
    labelled = score_map.labels() >= 0
    assert (score_map.labels()[labelled] == by_argmax[labelled]).all()
    sensitive = make_score_map(thresholds={"Tumour": 0.0})
    assert (sensitive.labels()[labelled] == 1).all()
    slide = make_score_map(slide_logits=SLIDE_LOGITS, thresholds={"Fat": 0.05})
    assert slide.slide_label == "Fat"
    assert make_score_map(slide_logits=SLIDE_LOGITS).slide_label == "Tumour"


def test_fractions_are_shares_of_labelled_area() -> None:
    lattice = Lattice((0, 0), (100, 100), 10, 10, 0.5, (0.4, 0.4))  # 12.5 px: boxes of 12 and 13
    cells = lattice.all_cells()[:3]
    logits = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    score_map = make_score_map(
        lattice=lattice, cells=cells, status=[0, 1, 0], logits=logits, thresholds={}
    )
    boxes = lattice.boxes(cells)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert len(set(area.tolist())) == 2
    assert score_map.fractions() == pytest.approx(
        {"Stroma": area[0] / area.sum(), "Tumour": area[1:].sum() / area.sum(), "Fat": 0}
    )
    nothing = make_score_map(status=[RegionStatus.READ_ERROR] * 12)
    assert np.isnan(list(nothing.fractions().values())).all()


def test_fractions_are_shares_of_the_tissue_where_it_is_known(tmp_path: Path) -> None:
    lattice = Lattice((0, 0), (100, 100), 10, 10, 0.5, (0.5, 0.5))
    known = make_score_map(
        lattice=lattice,
        cells=lattice.all_cells()[:3],
        status=[RegionStatus.OK, RegionStatus.OK, RegionStatus.READ_ERROR],
        logits=np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32),
        thresholds={},
        tissue=np.array([1, 0.25, 1], np.float32),
    )
    assert known.fractions() == pytest.approx({"Stroma": 0.8, "Tumour": 0.2, "Fat": 0})
    alone = dataclasses.replace(known, region_only_logits=known.logits[:, ::-1])
    assert alone.fractions() == known.fractions()
    assert alone.fractions(region_only=True) == pytest.approx(
        {"Stroma": 0, "Tumour": 0.2, "Fat": 0.8}
    )
    known.save(tmp_path / "x.run.h5")
    assert_equal(ScoreMap.load(tmp_path / "x.run.h5"), known)
    with pytest.raises(UsageError, match="no share"):
        dataclasses.replace(known, tissue=np.array([1, 2, 1], np.float32))


def test_a_map_of_an_older_version_counts_the_whole_area(tmp_path: Path) -> None:
    old = make_score_map()
    old.save(tmp_path / "x.run.h5")
    with h5py.File(tmp_path / "x.run.h5") as file:
        assert "tissue" not in file
    assert ScoreMap.load(tmp_path / "x.run.h5").tissue is None
    pixels = {"Stroma": 30, "Tumour": 10, "Fat": 0}
    old = make_score_map(task="dense", run_meta={RunMeta.MASK_PX: pixels})
    assert old.fractions() == {"Stroma": 0.75, "Tumour": 0.25, "Fat": 0}
    both = {RunMeta.MASK_PX: pixels, RunMeta.TISSUE_MASK_PX: {**pixels, "Stroma": 10}}
    assert make_score_map(task="dense", run_meta=both).fractions()["Stroma"] == 0.5


@pytest.mark.parametrize("stride", [256, 100])
def test_grid_puts_each_value_at_its_cell(stride: int) -> None:
    lattice = Lattice.for_bounds((7, 8, 3000, 2000), (0.25, 0.26), 0.5, 256, stride)
    cells = lattice.all_cells()[::3]
    score_map = make_score_map(lattice=lattice, cells=cells)
    values = np.arange(len(cells), dtype=np.float32)
    grid = score_map.grid(values)
    assert grid.shape == (lattice.n_rows, lattice.n_cols)
    assert np.isnan(grid).sum() == grid.size - len(cells)
    for value, (col, row) in zip(values, cells, strict=True):
        assert grid[row, col] == value
    classes = score_map.grid(score_map.probabilities)
    assert classes.shape == (lattice.n_rows, lattice.n_cols, 3)
    np.testing.assert_array_equal(classes[cells[:, 1], cells[:, 0]], score_map.probabilities)


@pytest.mark.parametrize(
    ("values", "empty"),
    [
        (np.zeros(12, np.int32), -1),
        (np.zeros(12, np.uint8), 255),
        (np.zeros(12, np.float64), np.nan),
        (np.ones(12, bool), False),
    ],
)
def test_grid_fills_by_type(values: np.ndarray[Any, Any], empty: float) -> None:
    grid = make_score_map().grid(values)
    assert grid.dtype == values.dtype
    np.testing.assert_equal(grid[0, 0], np.array(empty, values.dtype))
    assert make_score_map().grid(values, fill=1)[0, 0] == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"logits": np.zeros((12, 2))}, "logits has shape"),
        ({"status": np.zeros(11)}, "status has shape"),
        ({"status": np.full(12, 9)}, "unknown numbers"),
        ({"slide_logits": np.zeros(2)}, "slide_logits has shape"),
        ({"cells": np.full((12, 2), 99)}, "outside the lattice"),
        ({"cells": np.full((12, 2), -1)}, "outside the lattice"),
        ({"colors": ("#000000",)}, "colours for"),
        ({"classes": ("a", "a", "b")}, "colours for"),
        ({"thresholds": {"Nothing": 0.5}}, "Nothing"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"run_meta": {"a": {"b": object()}}}, r"run_meta\.a\.b"),
    ],
)
def test_values_that_do_not_fit_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        make_score_map(**change)


def test_a_newer_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.run.h5"
    with monkeypatch.context() as patch:
        patch.setattr("xt_backend.keys.RunH5.SCHEMA_ALL_LOOKED_AT", 3)
        make_score_map().save(path)
    with pytest.raises(StoreVersionError, match=r"written by napari-xt .*Upgrade"):
        ScoreMap.load(path)


def test_a_screened_map_asks_an_older_version_to_be_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 0.1.0 reads schema 1, and would call a status that it does not know damage."""
    plain, screened = tmp_path / "plain.run.h5", tmp_path / "screened.run.h5"
    status = make_score_map().status.copy()
    status[5] = RegionStatus.SCREENED_OUT
    make_score_map().save(plain)
    make_score_map(status=status).save(screened)
    assert_equal(ScoreMap.load(screened), make_score_map(status=status))
    monkeypatch.setattr("xt_backend.keys.RunH5.SCHEMA", 1)
    assert_equal(ScoreMap.load(plain), make_score_map())
    with pytest.raises(StoreVersionError, match="Upgrade"):
        ScoreMap.load(screened)


def test_quality_comes_back_and_an_older_map_has_none(tmp_path: Path) -> None:
    path = tmp_path / "x.run.h5"
    make_score_map().save(path)
    assert ScoreMap.load(path).quality is None
    score_map = make_score_map()
    status, quality = score_map.status.copy(), np.zeros(len(score_map), np.uint8)
    status[5], quality[5], quality[1] = RegionStatus.EXCLUDED, Doubt.PEN, Doubt.NOT_MEASURED
    measures = np.random.default_rng(1).normal(size=(len(score_map), 4)).astype(np.float16)
    measures[1] = np.nan
    wanted = make_score_map(status=status, quality=quality, quality_measures=measures)
    wanted.save(path)
    found = ScoreMap.load(path)
    np.testing.assert_array_equal(found.quality, quality)
    np.testing.assert_array_equal(found.quality_measures, measures)
    assert np.isnan(found.logits[5]).all()
    assert not found.scored[5]


def test_every_flipped_byte_is_seen_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "x.run.h5"
    score_map = make_score_map(slide_logits=SLIDE_LOGITS)
    score_map.save(path)
    image = path.read_bytes()
    refused = 0
    for place in range(0, len(image), 23):
        damaged = bytearray(image)
        damaged[place] ^= 0x14
        path.write_bytes(damaged)
        try:
            assert_equal(ScoreMap.load(path), score_map)
        except StoreCorruptError:
            refused += 1
    assert refused > 0.5 * len(image) / 23


@pytest.mark.parametrize("meta", ["", "[]", "{}", '{"lattice": 3}', None])
def test_meta_that_is_none_is_refused(tmp_path: Path, meta: str | None) -> None:
    from xt_backend.store import h5_image

    path = tmp_path / "x.run.h5"
    make_score_map().save(path)
    with h5py.File(path) as file:
        data = {name: file[name][()] for name in file}
        good = json.loads(file.attrs["meta"])
    if meta is None:
        meta = json.dumps({**good, "surprise": 1})
    attrs = {"napari_xt_run_schema": 1, "napari_xt_version": "0", "meta": meta}
    path.write_bytes(h5_image(data, attrs))
    with pytest.raises(StoreCorruptError, match="no score map"):
        ScoreMap.load(path)


def test_a_missing_file_is_not_corrupt(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        ScoreMap.load(tmp_path / "x.run.h5")
    assert not isinstance(caught.value, StoreCorruptError)


def test_a_score_map_is_printed_on_a_line() -> None:
    text = repr(make_score_map(partial=True))
    assert text.startswith("ScoreMap('")
    assert "regions scored, partial)" in text
    assert "\n" not in text
    assert len(text) < 200
