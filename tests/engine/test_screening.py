"""What a screening leaves out, and what it promises of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.score_maps import make_score_map
from support.slides import tissue_image, write_tiff_slide

from xt_backend.batch.rows import reason_of
from xt_backend.config import ScoreOptions
from xt_backend.engine import Stages, prepare
from xt_backend.engine.extraction import Extracted
from xt_backend.engine.rows import Rows
from xt_backend.engine.screening import (
    Screen,
    Sought,
    cut_place,
    describe,
    positives_needed,
    rank,
    recall_bound,
    sought_in,
)
from xt_backend.engine.screening.descriptors import low_lattice
from xt_backend.errors import ModelError, UsageError
from xt_backend.keys import RegionStatus, RunMeta, ScreeningMeta
from xt_backend.model import ClassInfo, ModelCard, find_model, read_card
from xt_backend.slides import Lattice
from xt_backend.store import ScoreMap


def test_the_rule_of_three() -> None:
    """No miss among 59 shows that at most 5 % are missed, with 95 % confidence."""
    assert positives_needed(0.95) == 59
    assert positives_needed(0.9) == 29
    assert (cut_place(58, 0.95), cut_place(59, 0.95)) == (0, 1)
    assert recall_bound(59, 1) == pytest.approx(0.05 ** (1 / 59))
    for n in (59, 200, 1000):
        place = cut_place(n, 0.95)
        assert recall_bound(n, place) >= 0.95 > recall_bound(n, place + 1)


def test_the_promise_is_kept_as_often_as_is_said() -> None:
    """Whatever the ranks: 1,000 positives, of which 150 are drawn, 2,000 times."""
    rng = np.random.default_rng(0)
    place = cut_place(150, 0.95)
    kept = 0
    for _ in range(2000):
        ranks = rng.normal(size=1000)
        cut = np.sort(rng.choice(ranks, 150, replace=False))[place - 1]
        kept += (ranks >= cut).mean() >= 0.95
    assert kept / 2000 >= 0.95


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    region_px = draw(st.integers(16, 512))
    mpp = st.sampled_from([0.25, 0.5, 1.0]) | st.floats(0.2, 1.5)
    return Lattice.for_bounds(
        (draw(st.integers(0, 50)), 11, draw(st.integers(1, 20000)), draw(st.integers(1, 20000))),
        (draw(st.sampled_from([0.2528, 0.25, 0.5]) | st.floats(0.1, 1.0)), 0.25),
        draw(mpp),
        region_px,
        draw(st.sampled_from([region_px, -(-region_px // 2)]) | st.integers(1, region_px)),
    )


@settings(deadline=None)
@given(lattices())
@example(Lattice((0, 0), (7813, 5000), 100, 100, 0.25, (0.2528, 0.2528)))
@example(Lattice((37, 11), (9000, 7000), 256, 7, 0.5, (0.2528, 0.25)))
def test_places_are_the_same_at_low_resolution(lattice: Lattice) -> None:
    low = low_lattice(lattice)
    half_px = 0.5 * low.model_mpp / np.array(lattice.slide_mpp * 2)
    half_px[:2] = 0  # the corner is exact
    n = np.minimum((low.n_cols, low.n_rows), (lattice.n_cols, lattice.n_rows))
    cells = np.linspace((0, 0), n - 1, 50).astype(int)
    assert (np.abs(low.boxes(cells) - lattice.boxes(cells)) <= half_px + 1).all()
    # What is lost is at the far edge, where the regions before it end within as little of it.
    far = np.add(lattice.origin_px, lattice.extent_px)
    lost = (lattice.n_cols, lattice.n_rows) > n
    assert (lattice.boxes(n[None] - 1)[0, 2:] >= far - half_px[2:] - 1)[lost].all()
    assert low.region_px <= max(64, lattice.region_px / lattice.stride_px) * 1.5
    stride_um, region_um = (px * lattice.model_mpp for px in (lattice.stride_px, lattice.region_px))
    if stride_um >= 8 and 64 <= region_um <= 512:
        assert 5 < low.model_mpp < 13


def test_a_column_that_is_lost_at_low_resolution_cannot_be_told(tmp_path: Path) -> None:
    image = tissue_image(7813, 200, ((0, 0, 7813, 200),))
    options = ScoreOptions(slide_mpp=0.2528, tissue="all")
    prepared = prepare(write_tiff_slide(tmp_path / "a.tiff", image), 0.25, 100, options)
    with prepared.slide:
        looks = describe(prepared, 1, Stages())
    last = prepared.cells[:, 0] == 79
    assert 0 < last.sum() < 10
    assert np.isnan(looks[last]).any(axis=1).all()
    assert np.isfinite(looks[~last]).all()


def test_what_cannot_be_told_ranks_above_all() -> None:
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(400, 6)).astype(np.float32)
    looks[7] = np.nan
    truth = 3.0 * looks[:, 0] - 2 * looks[:, 3] + rng.normal(size=400)
    ranks = rank(looks, np.arange(0, 400, 2), truth[::2].astype(np.float64))
    assert np.isposinf(ranks[7])
    others = np.setdiff1d(np.arange(1, 400, 2), 7)
    assert np.corrcoef(ranks[others], truth[others])[0, 1] > 0.9
    assert np.isposinf(rank(looks, np.array([7]), np.zeros(1))).all()


class Slide:
    """400 to 10,000 regions whose classes are known."""

    def __init__(self, positive: npt.NDArray[np.bool_], looks: npt.NDArray[np.float32]) -> None:
        n = len(positive)
        self.positive, self.looks = positive, looks
        lattice = Lattice.for_bounds((0, 0, 128 * n, 128), (0.5, 0.5), 0.5, 128)
        blank = make_score_map(
            lattice=lattice,
            cells=lattice.all_cells(),
            classes=("other", "tumour"),
            colors=("#000000", "#ffffff"),
            thresholds={},
            status=np.full(n, RegionStatus.SKIPPED, np.uint8),
            logits=np.full((n, 2), np.nan, np.float32),
            region_only_logits=np.full((n, 2), np.nan, np.float32),
        )
        self.rows = Rows(blank)
        self.seen = np.zeros(n, np.int64)
        self.stop_after = n + 1
        self.looked_at = False

    def extract(self, rows: npt.NDArray[np.int64]) -> Iterator[Extracted]:
        for part in np.array_split(rows, -(-len(rows) // 100)) if len(rows) else ():
            status = np.full(len(part), RegionStatus.OK, np.uint8)
            yield Extracted(part, np.zeros((len(part), 1, 4), np.float16), status, False)
            if self.stopped():
                return

    def stopped(self) -> bool:
        return int(self.seen.sum()) >= self.stop_after

    def screen(self, recall: float) -> Screen:
        sought = Sought(("tumour",), recall)
        return Screen(sought, self.rows, self.describe, self.extract, self.stopped)

    def describe(self) -> npt.NDArray[np.float32]:
        self.looked_at = True
        return self.looks

    def run(self, recall: float = 0.95) -> ScoreMap:
        for part in self.screen(recall).parts():
            self.seen[part.rows] += 1
            self.rows.status[part.rows] = part.status
            if part.status[0] != RegionStatus.SCREENED_OUT:
                self.rows.region_only[part.rows, 0] = 0
                self.rows.region_only[part.rows, 1] = np.where(self.positive[part.rows], 3, -3)
        return self.rows.map(partial=False)


def told(score_map: ScoreMap) -> Any:
    return score_map.run_meta[RunMeta.SCREENING]


def test_what_looks_different_is_left_out() -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(4000) < 0.3
    looks = rng.normal(size=(4000, 4)).astype(np.float32)
    looks[:, 0] += 3 * positive
    slide = Slide(positive, looks)
    found = slide.run()
    assert (slide.seen == 1).all()
    out = found.status == RegionStatus.SCREENED_OUT
    assert out.mean() > 0.4
    assert 1 - out[positive].mean() >= 0.95
    about = told(found)
    assert about[ScreeningMeta.SCREENED_OUT] == out.sum()
    assert 0.95 <= about[ScreeningMeta.BOUND] <= 1 - out[positive].mean()
    assert about[ScreeningMeta.DRAWN] == 600
    assert slide.rows.typical is not None
    assert slide.rows.typical.sum() == 600
    assert not (slide.rows.typical & out).any()


def test_looks_that_tell_nothing_cost_no_recall() -> None:
    """Over many slides the promise fails at most as often as it says."""
    failed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        positive = rng.random(1500) < 0.5
        slide = Slide(positive, rng.normal(size=(1500, 4)).astype(np.float32))
        out = slide.run(0.9).status == RegionStatus.SCREENED_OUT
        failed += bool(out[positive].mean() > 0.1)
    assert failed <= 5


def test_too_few_positives_leave_nothing_out() -> None:
    rng = np.random.default_rng(3)
    positive = np.zeros(2000, bool)
    positive[:40] = True
    slide = Slide(positive, rng.normal(size=(2000, 4)).astype(np.float32))
    found = slide.run()
    assert (found.status == RegionStatus.OK).all()
    assert told(found)[ScreeningMeta.SCREENED_OUT] == 0
    assert told(found)[ScreeningMeta.POSITIVES] < told(found)[ScreeningMeta.NEEDED] == 59
    assert told(found)[ScreeningMeta.BOUND] == 1
    assert not slide.looked_at  # what decides nothing is not read


def test_few_regions_are_all_drawn_and_the_reason_says_so() -> None:
    positive = np.arange(180) % 2 == 0
    slide = Slide(positive, positive[:, None].astype(np.float32))
    found = slide.run()
    assert (found.status == RegionStatus.OK).all()
    assert not slide.looked_at
    said = reason_of(180, notes=[], warnings=[], n_failed=0, screening=told(found))
    assert said == "nothing was screened out: of 180 regions all were drawn"


def test_more_is_drawn_where_that_may_be_enough() -> None:
    rng = np.random.default_rng(4)
    positive = rng.random(4000) < 0.09
    looks = rng.normal(size=(4000, 3)).astype(np.float32)
    looks[:, 1] += 4 * positive
    found = Slide(positive, looks).run()
    about = told(found)
    assert 600 < about[ScreeningMeta.DRAWN] <= 2000
    assert about[ScreeningMeta.POSITIVES] >= 59
    assert about[ScreeningMeta.SHARE] > 0.3


def test_a_cancelled_screening_stops() -> None:
    rng = np.random.default_rng(5)
    slide = Slide(rng.random(2000) < 0.5, rng.normal(size=(2000, 3)).astype(np.float32))
    slide.stop_after = 150
    found = slide.run()
    assert slide.seen.sum() == 200
    assert RunMeta.SCREENING not in found.run_meta
    assert found.status_counts()[RegionStatus.SCREENED_OUT] == 0


def options(*classes: str, screen: float | None = 0.95) -> ScoreOptions:
    return ScoreOptions(screen=screen, screen_class=classes)


def test_what_is_sought_is_named() -> None:
    card = read_card(find_model("context-demo"))
    found = sought_in(card, options("nest", "reactive"))
    assert found == Sought(("reactive", "nest"), 0.95)
    assert sought_in(card, options(screen=None)) is None
    for wrong, words in (
        (options(), "does not say what is sought"),
        (options("nests"), "no class 'nests'"),
        (options(*card.class_names), "every class"),
        (options("nest", screen=None), "without --screen"),
    ):
        with pytest.raises(UsageError, match=words):
            sought_in(card, wrong)


def _two(**changes: Any) -> ModelCard:
    card = read_card(find_model("context-demo"))
    classes = (ClassInfo(name="normal", color="#000000"), ClassInfo(name="tumour", color="#ffffff"))
    # Nothing else of a card is looked at.
    return card.model_copy(update={"classes": classes, "thresholds": {}, **changes})


def test_a_threshold_says_which_of_two_classes_is_sought() -> None:
    assert sought_in(_two(thresholds={"tumour": 0.3}), options()) == Sought(("tumour",), 0.95)
    with pytest.raises(UsageError, match="does not say what is sought"):
        sought_in(_two(), options())


@pytest.mark.parametrize("changes", [{"task": "dense"}, {"task": "slide"}, {"layout": "reference"}])
def test_only_models_of_regions_screen(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="--screen is for models of regions"):
        sought_in(_two(**changes), options("tumour"))
