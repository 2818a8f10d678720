"""Local maxima of heat maps, and suppression across the borders of regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xt_backend.engine.peaks import each_once, least_radius_um, points_of, suppress
from xt_backend.model import DetectionInfo
from xt_backend.slides import Lattice
from xt_backend.store import Points

MPP = (0.5, 0.5)


def lattice(bounds_px: tuple[int, int, int, int] = (40, 20, 512, 512)) -> Lattice:
    return Lattice.for_bounds(bounds_px, MPP, 1.0, 64)  # heat maps of 16 x 16, 8 level-0 px each


def make(x_px: list[float], y_px: list[float], score: list[float], kind: int = 0) -> Points:
    return Points(
        np.array(x_px), np.array(y_px), np.full(len(x_px), kind, np.int32), np.float32(score)
    )


def test_peaks_lie_at_the_middles_of_their_pixels_on_the_slide() -> None:
    heat = np.zeros((2, 2, 16, 16), np.float32)
    heat[0, 0, 3, 5] = 0.9
    heat[0, 1, 15, 0] = 0.7
    heat[1, 0, 0, 0] = 0.4
    heat[1, 1, 0, 0] = 0.45
    cells = np.array([(0, 0), (2, 1)], np.int32)
    found = points_of(heat, [0.5, 0.4], lattice(), cells)
    assert found.x_px.tolist() == [40 + 5.5 * 8, 40 + 0.5 * 8, 40 + 256 + 4]
    assert found.y_px.tolist() == [20 + 3.5 * 8, 20 + 15.5 * 8, 20 + 128 + 4]
    assert found.kind.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.score, [0.9, 0.7, 0.45])


def test_a_plateau_is_one_peak_and_nan_is_none() -> None:
    heat = np.zeros((1, 1, 16, 16), np.float32)
    heat[0, 0, 4:6, 7:10] = 0.8
    heat[0, 0, 12, 12] = np.nan
    found = points_of(heat, [0.5], lattice(), np.array([(0, 0)], np.int32))
    assert (found.x_px.tolist(), found.y_px.tolist()) == ([40 + 7.5 * 8], [20 + 4.5 * 8])


def test_only_what_is_higher_than_its_neighbours_is_a_peak() -> None:
    rng = np.random.default_rng(0)
    heat = rng.random((3, 1, 16, 16), np.float32)
    found = points_of(heat, [0.0], lattice((0, 0, 512, 512)), lattice().all_cells()[:3])
    expected = []
    for region in range(3):
        for row in range(16):
            for col in range(16):
                around = heat[region, 0, max(0, row - 1) : row + 2, max(0, col - 1) : col + 2]
                if heat[region, 0, row, col] == around.max():
                    expected.append((region * 128 + col * 8 + 4, row * 8 + 4))
    assert list(zip(found.x_px, found.y_px, strict=True)) == expected


def test_points_beyond_the_slide_are_left_out() -> None:
    heat = np.zeros((1, 1, 16, 16), np.float32)
    heat[0, 0, 2, 2] = heat[0, 0, 2, 12] = heat[0, 0, 12, 2] = 0.9
    found = points_of(heat, [0.5], lattice((0, 0, 64, 64)), np.array([(0, 0)], np.int32))
    assert (found.x_px.tolist(), found.y_px.tolist()) == ([20], [20])


def test_the_highest_is_left_and_a_suppressed_point_suppresses_nothing() -> None:
    # 10 um apart each: the middle one falls to the first, so the last stays.
    found = suppress(make([0, 20, 40], [0, 0, 0], [0.9, 0.8, 0.7]), 11, MPP)
    assert found.x_px.tolist() == [0, 40]
    found = suppress(make([0, 20, 40], [0, 0, 0], [0.8, 0.9, 0.7]), 11, MPP)
    assert found.x_px.tolist() == [20]


def test_kinds_suppress_each_other() -> None:
    both = Points.joined([make([0], [0], [0.6]), make([2], [0], [0.7], kind=1)])
    assert suppress(both, 4, MPP).kind.tolist() == [1]


def test_distances_are_um_along_both_axes() -> None:
    points = make([0, 10, 0], [0, 0, 10], [0.9, 0.8, 0.7])
    assert len(suppress(points, 6, (0.5, 1.0))) == 2
    assert suppress(points, 6, (0.5, 1.0)).y_px.tolist() == [0, 10]


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5)),
        max_size=80,
    ),
    st.integers(1, 20),
)
def test_suppression_is_the_greedy_one(places: list[tuple[int, int, int]], radius_um: int) -> None:
    points = make(*[[float(v) for v in column] for column in zip(*places, strict=True)] or [[]] * 3)
    found = suppress(points, radius_um, (1.0, 1.0))
    kept: list[tuple[int, int, int]] = []
    for x, y, score in sorted(places, key=lambda p: (-p[2], p[1], p[0])):
        if all((x - a) ** 2 + (y - b) ** 2 > radius_um**2 for a, b, _ in kept):
            kept.append((x, y, score))
    expected = sorted((y, x, score) for x, y, score in kept)
    assert list(zip(found.y_px, found.x_px, found.score, strict=True)) == expected
    shuffled = suppress(points.take(np.arange(len(points))[::-1]), radius_um, (1.0, 1.0))
    assert shuffled.x_px.tolist() == found.x_px.tolist()


def test_the_two_halves_of_a_peak_on_a_border_are_within_the_least_radius() -> None:
    places = lattice()
    heat = np.zeros((2, 1, 16, 16), np.float32)
    heat[0, 0, 7, 15], heat[1, 0, 8, 0] = 0.8, 0.9
    found = points_of(heat, [0.5], places, np.array([(0, 0), (1, 0)], np.int32))
    assert len(found) == 2
    kept = suppress(found, least_radius_um(places), MPP)
    assert kept.score.tolist() == [pytest.approx(0.9)]


def test_one_rule_for_what_a_point_is() -> None:
    places = Lattice.for_bounds((0, 0, 256, 256), (1.0, 1.0), 1.0, 64)
    points = make([0, 8, 30], [0, 0, 0], [0.9, 0.8, 0.7])
    assert len(each_once(points, DetectionInfo(peak_radius_um=1.0), places)) == 3
    assert len(each_once(points, DetectionInfo(peak_radius_um=9.0), places)) == 2
    near = make([0, 5], [0, 0], [0.9, 0.8])  # on the border of two regions
    assert len(each_once(near, DetectionInfo(peak_radius_um=1.0), places)) == 1
    detection = DetectionInfo(thresholds={"a": 0.3})
    assert (detection.threshold("a"), detection.threshold("b")) == (0.3, 0.5)
