"""Two results side by side: places, numbers, masks, points, picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score
from support.score_maps import make_score_map

from xt_backend.keys import RunH5
from xt_backend.outputs import SlideMask, rgb
from xt_backend.outputs.diff import (
    Agreement,
    compare_maps,
    compare_masks,
    compare_points,
    match_regions,
    write_diff_picture,
)
from xt_backend.slides.lattice import Lattice
from xt_backend.store import Points, ScoreMap

SIDE = 12_800
BOUNDS = (1000, 2000, SIDE, SIDE)
CLASSES = ("Stroma", "Tumour", "Fat")
SURE = np.eye(3, dtype=np.float32) * 9


def whole(labels: Any, region_px: int = 64, *, mpp: float = 0.25, **changes: Any) -> ScoreMap:
    """A result on all of 3.2 x 3.2 mm; `labels` is a class for each place (x, y) from 0 to 1."""
    x0, y0, side = (round(v * 0.25 / mpp) for v in (BOUNDS[0], BOUNDS[1], SIDE))
    stride = changes.pop("stride_px", None)
    lattice = Lattice.for_bounds((x0, y0, side, side), (mpp, mpp), 1.0, region_px, stride)
    cells = changes.pop("cells", lattice.all_cells())
    places = lattice.centres_um(cells) / 3200
    kinds = np.array([labels(x, y) for x, y in places.tolist()], np.intp)
    base = {
        "lattice": lattice,
        "cells": cells,
        "status": np.zeros(len(cells), np.uint8),
        "logits": SURE[kinds],
        "thresholds": {},
        "run_meta": {RunH5.META_SLIDE_IDENTITY: f"content {mpp}"},
        "width_px": x0 + side,
        "height_px": y0 + side,
    }
    return make_score_map(**{**base, **changes})


def halves(x: float, y: float) -> int:
    return int(x > 0.5)


def test_kappa_is_cohens() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 400)
    b = np.where(rng.random(400) < 0.7, a, rng.integers(0, 3, 400))
    found = Agreement.of(a, b, CLASSES, CLASSES)
    assert found.kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert found.same == pytest.approx((a == b).mean())
    half = Agreement.of(a[:200], b[:200], CLASSES, CLASSES)
    both = half + Agreement.of(a[200:], b[200:], CLASSES, CLASSES)
    assert both.counts.tolist() == found.counts.tolist()
    assert np.isnan(Agreement.of(a[:0], b[:0], CLASSES, CLASSES).same)
    assert np.isnan(Agreement.of(a * 0, b * 0, CLASSES, CLASSES).kappa)


def test_classes_are_told_apart_by_name() -> None:
    turned = (CLASSES[1], CLASSES[0], "Nerve")
    found = compare_maps(
        whole(lambda x, y: int(x > 0.5)), whole(lambda x, y: int(x <= 0.5), classes=turned)
    )
    assert found.regions.same == 1
    assert set(found.mean_abs_diff) == {"Stroma", "Tumour"}
    assert found.mean_abs_diff["Tumour"] == pytest.approx(0)
    assert "those in both: Stroma, Tumour" in found.notes[0]


def test_the_same_regions_meet_whatever_their_order() -> None:
    a = whole(halves)
    b = whole(halves, cells=a.cells[::-1].copy())
    matching = match_regions(a, b)
    np.testing.assert_array_equal(a.cells[matching.rows_a], b.cells[matching.rows_b])
    assert len(matching.rows_a) == len(a) == 2500
    assert compare_maps(a, b).matched_by == "region"


def test_regions_of_one_only_are_counted() -> None:
    a = whole(halves)
    b = whole(halves, cells=a.cells[100:])
    status = np.zeros(len(a), np.uint8)
    status[-30:] = 2  # could not be read
    found = compare_maps(whole(halves, status=status), b)
    assert found.matching is not None
    assert found.matching.only_a.tolist() == list(range(100))
    assert found.matching.only_b.tolist() == list(range(len(b) - 30, len(b)))
    assert found.regions.total == len(a) - 130


def test_another_scan_meets_at_the_same_distance_from_the_corner() -> None:
    found = compare_maps(whole(halves), whole(halves, mpp=0.2))
    assert found.regions.total == 2500
    assert found.regions.same == 1
    assert found.same_file is False
    assert found.matched_by == "position"
    assert "not the same file" in found.notes[0]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("region_px", "stride_px"), [(128, 128), (100, 100), (128, 64)])
def test_regions_of_other_sizes_meet_at_their_middles(
    region_px: int, stride_px: int, swapped: bool
) -> None:
    maps = [whole(halves, 32), whole(halves, region_px, stride_px=stride_px)]
    a, b = maps[::-1] if swapped else maps
    found = compare_maps(a, b)
    matching = found.matching
    assert matching is not None
    assert matching.a_is_finer is not swapped
    gaps = np.abs(
        a.lattice.centres_um(a.cells[matching.rows_a])
        - b.lattice.centres_um(b.cells[matching.rows_b])
    )
    assert gaps.max() <= stride_px / 2 + 1e-9 or stride_px < region_px
    assert gaps.max() <= region_px / 2
    assert len(gaps) == 100 * 100
    assert found.matched_by == "position"
    assert found.regions.same > 0.97
    assert "each of" in found.notes[-1]
    assert "32 um" in found.notes[-1]


def test_slides_of_other_sizes_are_not_matched() -> None:
    a, b = whole(halves), make_score_map(run_meta={RunH5.META_SLIDE_IDENTITY: "other"})
    found = compare_maps(a, b)
    assert found.matched_by == "nothing"
    assert found.regions.total == 0
    assert "3.2 x 3.2 mm and 0.625 x 0.5 mm" in found.notes[0]


def test_a_slide_without_regions_has_nothing_to_compare(tmp_path: Path) -> None:
    a, b = whole(halves), whole(halves, cells=np.empty((0, 2), np.int32))
    for found in (compare_maps(a, b), compare_maps(b, a)):
        assert found.regions.total == 0
        assert found.matching is not None
        assert len(found.matching.only_a) + len(found.matching.only_b) == len(a)
        write_diff_picture(tmp_path / "d.png", found)
        assert (tmp_path / "d.png").stat().st_size > 1000


def test_numbers_of_probabilities() -> None:
    rng = np.random.default_rng(3)
    a = whole(halves, logits=rng.normal(size=(2500, 3)).astype(np.float32))
    b = whole(halves, logits=rng.normal(size=(2500, 3)).astype(np.float32))
    found = compare_maps(a, b)
    for n, name in enumerate(CLASSES):
        one, other = a.probabilities[:, n], b.probabilities[:, n]
        assert found.mean_abs_diff[name] == pytest.approx(np.abs(one - other).mean(), rel=1e-5)
        wanted = np.corrcoef(one, other)[0, 1]
        assert found.correlations[name] == pytest.approx(wanted, abs=1e-6)


def mask(values: Any, mpp: float) -> SlideMask:
    level = np.asarray(values, np.uint8)
    return SlideMask((level,), mpp, (0, 0), (0.25, 0.25), CLASSES, ("#000000",) * 3)


def test_masks_of_other_pixel_sizes_meet() -> None:
    coarse = np.zeros((30, 40), np.uint8)
    coarse[5:20, 10:30] = 2
    coarse[20:25, :] = 1
    fine = np.kron(coarse, np.ones((3, 3), np.uint8))
    found = compare_masks(mask(fine, 1.0), mask(coarse, 3.0))
    assert found.same == 1
    assert found.total == (fine > 0).sum()
    assert compare_masks(mask(coarse, 3.0), mask(fine, 1.0)).total == (coarse > 0).sum()
    coarse[coarse == 0] = 3
    moved = compare_masks(mask(np.roll(coarse, 5, axis=1), 3.0), mask(coarse, 3.0))
    assert moved.same == pytest.approx((np.roll(coarse, 5, axis=1) == coarse).mean())


def test_points_are_the_same_if_each_is_the_others_nearest() -> None:
    score_map = whole(halves)  # 0.25 um/px
    kinds = ("Tumour", "Fat")

    def of(*places: tuple[float, float, int]) -> Points:
        x, y, kind = (np.array(values) for values in zip(*places, strict=True))
        return Points(x, y, kind, np.ones(len(x)))

    a = of((1000, 1000, 0), (1010, 1000, 0), (5000, 5000, 0), (2000, 2000, 1))
    b = of((1004, 1000, 0), (5040, 5000, 0), (2000, 2000, 0))
    found = compare_points((a, score_map, kinds), (b, score_map, kinds), 8.0)
    assert (found["Tumour"].n_a, found["Tumour"].n_b, found["Tumour"].n_both) == (3, 3, 1)
    assert (found["Fat"].n_a, found["Fat"].n_b, found["Fat"].n_both) == (1, 0, 0)
    wide = compare_points((a, score_map, kinds), (b, score_map, kinds), 10.5)
    assert wide["Tumour"].n_both == 2


def test_the_picture_shows_where_they_differ(tmp_path: Path) -> None:
    a = whole(halves)
    left = a.cells[a.cells[:, 0] >= 5]
    b = whole(lambda x, y: int(x > 0.5 and y < 0.5), cells=left)
    write_diff_picture(tmp_path / "d.png", compare_maps(a, b))
    picture = np.asarray(Image.open(tmp_path / "d.png").convert("RGB")).astype(int)
    third = picture[64:624, -576:-16]  # 560 px of the last panel
    assert third.shape == (560, 560, 3)
    blank = 245

    def color(x: float, y: float) -> Any:
        return third[round(y * 560), round(x * 560)] * 2 - blank

    for place, wanted in (
        ((0.3, 0.3), "#56b4e9"),
        ((0.8, 0.2), "#56b4e9"),
        ((0.8, 0.8), "#d55e00"),
        ((0.05, 0.5), "#f0e442"),
    ):
        assert np.abs(color(*place) - rgb(wanted)).max() <= 2, place
