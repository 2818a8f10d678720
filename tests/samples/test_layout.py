"""Outlines of sample slides: places, sizes, and what must not tell the label."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from scipy import stats

from xt_backend.errors import UsageError
from xt_backend.samples.layout import MPP, Layout, Lobule, draw_layout


@pytest.fixture(scope="module")
def layouts() -> list[Layout]:
    """Many slides of about four lobules."""
    return [draw_layout(3072, 3072, (seed, 0)) for seed in range(60)]


def _diameter_um(lobule: Lobule) -> float:
    return 2 * (lobule.outline.area / np.pi) ** 0.5 * MPP


def test_about_six_lobules_of_a_slide_of_4096_px() -> None:
    counts = [len(draw_layout(4096, 4096, (seed, 0)).lobules) for seed in range(12)]
    assert min(counts) >= 5
    assert max(counts) <= 7
    assert 5.5 < np.mean(counts) < 7


def test_lobules_have_the_size_of_lobules_and_keep_apart(layouts: list[Layout]) -> None:
    diameters = [_diameter_um(lobule) for layout in layouts for lobule in layout.lobules]
    assert np.percentile(diameters, 5) > 400
    assert np.percentile(diameters, 95) < 720
    nearest_um = []
    for layout in layouts:
        outlines = [lobule.outline for lobule in layout.lobules]
        gaps = {
            pair: pair[0].distance(pair[1]) * MPP for pair in itertools.combinations(outlines, 2)
        }
        assert min(gaps.values()) >= 120
        nearest_um += [min(gap for pair, gap in gaps.items() if o in pair) for o in outlines]
    assert np.percentile(nearest_um, 95) < 250


def test_everything_lies_where_it_belongs(layouts: list[Layout]) -> None:
    for layout in layouts[:20]:
        slide = shapely.box(0, 0, layout.width_px, layout.height_px)
        assert layout.tissue.is_valid
        assert slide.contains(layout.tissue)
        assert layout.tissue.area > 0.6 * slide.area
        for lobule in layout.lobules:
            assert lobule.outline.is_valid
            assert lobule.nest_site.is_valid
            assert layout.tissue.contains(lobule.outline.buffer(40))
            assert lobule.outline.contains(lobule.nest_site)
            radius_um = (lobule.nest_site.area / np.pi) ** 0.5 * MPP
            assert 38 < radius_um < 66
            inside = [
                g for g in layout.glands if lobule.outline.contains(shapely.Point(g.x_px, g.y_px))
            ]
            assert len(inside) >= 3
    outside = [
        gland
        for layout in layouts
        for gland in layout.glands
        if not any(
            lb.outline.contains(shapely.Point(gland.x_px, gland.y_px)) for lb in layout.lobules
        )
    ]
    assert len(outside) > len(layouts)


def test_half_of_the_lobules_hold_a_nest(layouts: list[Layout]) -> None:
    for layout in layouts:
        count, nests = len(layout.lobules), len(layout.nests)
        assert nests in {count // 2, (count + 1) // 2}
    share = np.mean([lobule.has_nest for layout in layouts for lobule in layout.lobules])
    assert 0.45 < share < 0.55


def test_nests_lie_anywhere_in_their_lobule(layouts: list[Layout]) -> None:
    lobules = [lobule for layout in layouts for lobule in layout.lobules]
    sites = np.array([shapely.centroid(lobule.nest_site).coords[0] for lobule in lobules])
    centres = np.array([shapely.centroid(lobule.outline).coords[0] for lobule in lobules])
    away = (sites - centres) / np.array([[_diameter_um(lobule) / 2 / MPP] for lobule in lobules])
    assert (np.abs(away.mean(axis=0)) < 0.08).all()
    distance = np.hypot(*away.T)
    assert (distance < 0.3).mean() > 0.08
    assert (distance > 0.6).mean() > 0.2


def test_nothing_about_a_lobule_tells_whether_it_holds_a_nest(layouts: list[Layout]) -> None:
    rows, labels = [], []
    for layout in layouts:
        for lobule in layout.lobules:
            centre = lobule.outline.centroid
            glands = [
                g for g in layout.glands if lobule.outline.contains(shapely.Point(g.x_px, g.y_px))
            ]
            rows.append(
                (
                    lobule.outline.area,
                    lobule.outline.length**2 / lobule.outline.area,
                    centre.x,
                    centre.y,
                    abs(centre.x - layout.width_px / 2) + abs(centre.y - layout.height_px / 2),
                    len(glands) / lobule.outline.area,
                    np.mean([g.radius_px for g in glands]),
                    lobule.nest_site.area,
                )
            )
            labels.append(lobule.has_nest)
    table, label = np.array(rows), np.array(labels)
    p_values = [stats.mannwhitneyu(column[label], column[~label]).pvalue for column in table.T]
    # Eight questions: one of them below 0.005 would come by chance in 4 of 100 such tests.
    assert min(p_values) > 0.005


def test_the_choice_of_lobules_moves_nothing() -> None:
    # Two slides that differ in nothing but the stream that chooses: the layout is drawn from
    # four streams, so a chosen lobule may not shift a random number of the others.
    first, second = (draw_layout(3072, 3072, (7, 0)) for _ in range(2))
    assert first == second
    holding = [lobule for lobule in first.lobules if lobule.has_nest]
    without = [lobule for lobule in first.lobules if not lobule.has_nest]
    assert holding
    assert without
    assert all(not lobule.nest_site.is_empty for lobule in without)


@pytest.mark.parametrize("size", [(1023, 4096), (4096, 512)])
def test_too_small_a_slide_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="1024"):
        draw_layout(*size, (0, 0))


@pytest.mark.parametrize("size", [(1024, 1024), (1024, 5000), (6000, 1100)])
def test_small_and_long_slides_have_lobules(size: tuple[int, int]) -> None:
    for seed in range(8):
        assert draw_layout(*size, (seed, 0)).lobules
