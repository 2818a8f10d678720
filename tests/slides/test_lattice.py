"""Region places: every pixel once, whatever the sizes."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shapely import affinity
from shapely.geometry import GeometryCollection, MultiPolygon, Point, Polygon, box

from xt_backend.errors import UsageError
from xt_backend.slides import Lattice, first_middle_px


@st.composite
def lattices(draw: st.DrawFn, overlapping: bool = False) -> Lattice:
    region = draw(st.integers(1, 300))
    stride = draw(st.integers(max(1, region // 3), region)) if overlapping else region
    mpps = st.floats(0.05, 5.0)
    slide_mpp = (draw(mpps), draw(mpps))
    model_mpp = draw(mpps)
    assume(min(model_mpp / slide_mpp[0], model_mpp / slide_mpp[1]) * region >= 1)
    side = st.integers(1, 2000)
    corner = st.integers(0, 10_000)
    lattice = Lattice(
        (draw(corner), draw(corner)),
        (draw(side), draw(side)),
        region,
        stride,
        model_mpp,
        slide_mpp,
    )
    assume(lattice.n_cols * lattice.n_rows <= 20_000)
    return lattice


@given(lattices())
def test_cells_meet_without_gap_or_overlap(lattice: Lattice) -> None:
    for axis, n in enumerate((lattice.n_cols, lattice.n_rows)):
        cells = np.zeros((n, 2), dtype=int)
        cells[:, axis] = np.arange(n)
        boxes = lattice.boxes(cells)
        starts, ends = boxes[:, axis], boxes[:, axis + 2]
        origin, extent = lattice.origin_px[axis], lattice.extent_px[axis]
        assert starts[0] == origin
        np.testing.assert_array_equal(ends[:-1], starts[1:])
        assert ends[-1] >= origin + extent
        assert starts[-1] < origin + extent, "a cell without a single pixel"
        assert (ends > starts).all()


@given(lattices(overlapping=True))
def test_overlapping_cells_cover_everything(lattice: Lattice) -> None:
    boxes = lattice.boxes(lattice.all_cells())
    for axis in (0, 1):
        covered = np.zeros(lattice.extent_px[axis], dtype=bool)
        for start, end in np.unique(boxes[:, [axis, axis + 2]], axis=0) - lattice.origin_px[axis]:
            assert start < len(covered)
            covered[start:end] = True
        assert covered.all()


@given(lattices(overlapping=True))
def test_affines_agree_with_boxes(lattice: Lattice) -> None:
    cells = lattice.all_cells()
    corners = np.c_[cells, np.ones(len(cells))] @ lattice.affine_to_level0().T
    assert np.abs(corners[:, :2] - lattice.boxes(cells)[:, :2]).max() <= 0.5 + 1e-6
    um = np.c_[cells, np.ones(len(cells))] @ lattice.affine_to_um().T
    np.testing.assert_allclose(um[:, :2], corners[:, :2] * lattice.slide_mpp)
    middles = lattice.centres_um(cells) + np.multiply(lattice.origin_px, lattice.slide_mpp)
    boxes = lattice.boxes(cells)
    seen = (boxes[:, :2] + boxes[:, 2:]) / 2 * lattice.slide_mpp
    assert (np.abs(middles - seen) <= np.multiply(lattice.slide_mpp, 0.5 + 1e-6)).all()


@given(lattices(overlapping=True))
def test_middles_meet_inside_their_regions(lattice: Lattice) -> None:
    boxes, cells = lattice.boxes(lattice.all_cells()), lattice.all_cells()
    corners = lattice.middles_to_level0() @ np.c_[cells, np.ones(len(cells))].T
    for axis, count in enumerate((lattice.n_cols, lattice.n_rows)):
        edges = lattice.middle_edges(axis)
        assert len(edges) == count + 1
        np.testing.assert_allclose(edges[cells[:, axis]], corners[axis], rtol=0, atol=0.5001)
        starts, ends = edges[cells[:, axis]], edges[cells[:, axis] + 1]
        before, after = starts - boxes[:, axis], boxes[:, axis + 2] - ends
        assert (np.abs(before - after) <= 2).all()  # whole pixels: each edge is rounded
        if lattice.stride_px == lattice.region_px:
            assert not before.any()
            assert not after.any()


@given(lattices(overlapping=True))
def test_the_first_middle_is_that_of_the_first_region(lattice: Lattice) -> None:
    x, y = first_middle_px(lattice.middles_to_level0())
    # The centre of a pixel is half a pixel from its corner, which is what lattices count from.
    wanted = lattice.centres_um([(0, 0)])[0] / lattice.slide_mpp + lattice.origin_px
    np.testing.assert_allclose((x + 0.5, y + 0.5), wanted)


@given(lattices(overlapping=True), st.integers(0, 5000), st.integers(0, 5000))
def test_the_container_does_not_matter(lattice: Lattice, dx: int, dy: int) -> None:
    """The same pixels at another place of another canvas fall into the same cells."""
    moved = Lattice.from_dict({**lattice.to_dict(), "origin_px": [dx, dy]})
    cells = lattice.all_cells()
    np.testing.assert_array_equal(moved.all_cells(), cells)
    shift = np.tile(np.subtract((dx, dy), lattice.origin_px), 2)
    np.testing.assert_array_equal(moved.boxes(cells), lattice.boxes(cells) + shift)
    np.testing.assert_array_equal(moved.centres_um(cells), lattice.centres_um(cells))
    np.testing.assert_array_equal(moved.is_edge(cells), lattice.is_edge(cells))


@given(lattices(overlapping=True))
def test_dict_round_trip(lattice: Lattice) -> None:
    assert Lattice.from_dict(json.loads(json.dumps(lattice.to_dict()))) == lattice


@given(lattices(), st.data())
def test_every_tissue_pixel_lies_in_exactly_one_selected_cell(
    lattice: Lattice, data: st.DataObject
) -> None:
    """Counted pixel by pixel at level 0, with a mask whose pixels straddle cells."""
    scale_x, scale_y = data.draw(st.floats(0.4, 90)), data.draw(st.floats(0.4, 90))
    (x, y), (width, height) = lattice.origin_px, lattice.extent_px
    assume((x + width) / scale_x * (y + height) / scale_y < 2e6)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (int(np.ceil((y + height) / scale_y)) + 1, int(np.ceil((x + width) / scale_x)) + 1)
    mask = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.002, 0.05, 0.9, 1.0]))
    cells = lattice.select(mask, scale_x, scale_y)
    assert cells.dtype == np.int32
    boxes = lattice.boxes(cells)

    hits = np.zeros((lattice.n_rows, lattice.n_cols), dtype=int)
    hits[cells[:, 1], cells[:, 0]] += 1
    assert hits.max(initial=0) <= 1
    order = cells[:, 1].astype(np.int64) * lattice.n_cols + cells[:, 0]
    assert (np.diff(order) > 0).all(), "not in raster order"

    # Level-0 px overlapped by tissue, per axis as index ranges of mask pixels.
    far = (x + width, y + height)
    for x0, y0, x1, y1 in boxes:
        x1, y1 = min(x1, far[0]), min(y1, far[1])
        part = mask[
            int(y0 // scale_y) : int(np.ceil(y1 / scale_y)),
            int(x0 // scale_x) : int(np.ceil(x1 / scale_x)),
        ]
        assert part.any(), "a selected cell without tissue"
    chosen = set(map(tuple, cells.tolist()))
    all_boxes = lattice.boxes(lattice.all_cells())
    rows, cols = np.nonzero(mask)
    for row, col in list(zip(rows, cols, strict=True))[:200]:
        left, right = max(col * scale_x, x), min((col + 1) * scale_x, far[0])
        top, lower = max(row * scale_y, y), min((row + 1) * scale_y, far[1])
        if right - left < 1e-6 or lower - top < 1e-6:
            continue
        middle = ((left + right) / 2, (top + lower) / 2)
        inside = (
            (all_boxes[:, 0] <= middle[0])
            & (middle[0] < all_boxes[:, 2])
            & (all_boxes[:, 1] <= middle[1])
            & (middle[1] < all_boxes[:, 3])
        )
        assert inside.sum() == 1
        assert tuple(lattice.all_cells()[inside][0].tolist()) in chosen


def _lattice(extent: tuple[int, int] = (1000, 800), **other: Any) -> Lattice:
    values = {"region_px": 100, "stride_px": 100, "model_mpp": 0.5, "slide_mpp": (0.5, 0.5)}
    return Lattice(**{"origin_px": (0, 0), "extent_px": extent, **values, **other})


def test_roi_by_brute_force() -> None:
    """Against an exact intersection of every tissue pixel with every cell."""
    rng = np.random.default_rng(3)
    lattice = _lattice(region_px=90, stride_px=90, origin_px=(37, 11), extent=(600, 500))
    mask = rng.random((21, 25)) < 0.15
    scale_x, scale_y = 26.1, 24.7
    hole = [[250, 150], [330, 150], [330, 230], [250, 230]]
    roi = Polygon([[60, 40], [480, 90], [560, 420], [200, 480]], [hole])
    expected = []
    for col, row in lattice.all_cells().tolist():
        x0, y0, x1, y1 = lattice.boxes([(col, row)])[0]
        cell = box(x0, y0, min(x1, 637), min(y1, 511))
        shared = [
            box(c * scale_x, r * scale_y, (c + 1) * scale_x, (r + 1) * scale_y)
            .intersection(cell)
            .intersection(roi)
            .area
            for r, c in zip(*np.nonzero(mask), strict=True)
        ]
        if sum(shared) > 0:
            expected.append([col, row])
    found = lattice.select(mask, scale_x, scale_y, roi)
    assert 5 < len(found) < len(lattice.select(mask, scale_x, scale_y))
    assert found.tolist() == expected


def test_tiny_roi_selects_its_cell() -> None:
    mask = np.ones((8, 10), dtype=bool)
    found = _lattice().select(mask, 100, 100, Point(555, 333).buffer(0.01))
    assert found.tolist() == [[5, 3]]


def test_roi_along_the_cells_edges_takes_no_neighbours() -> None:
    mask = np.ones((80, 100), dtype=bool)
    found = _lattice().select(mask, 10, 10, box(200, 100, 400, 200))
    assert found.tolist() == [[2, 1], [3, 1]]


def test_roi_with_an_inner_corner_on_the_cells_edges() -> None:
    """Within the ROI's bounding box, cells touch its outline from outside."""
    mask = np.ones((80, 100), dtype=bool)
    roi = Polygon([(200, 100), (500, 100), (500, 200), (300, 200), (300, 400), (200, 400)])
    found = _lattice().select(mask, 10, 10, roi).tolist()
    assert found == [[2, 1], [3, 1], [4, 1], [2, 2], [2, 3]]
    mask[15, 25] = False  # no cell is full tissue or none any more
    assert _lattice().select(mask, 10, 10, roi).tolist() == found


def test_roi_of_several_parts() -> None:
    mask = np.ones((80, 100), dtype=bool)
    parts = [box(10, 10, 20, 20), box(910, 710, 920, 720)]
    for roi in (MultiPolygon(parts), GeometryCollection([*parts, Point(500, 500)])):
        assert _lattice().select(mask, 10, 10, roi).tolist() == [[0, 0], [9, 7]]


def test_roi_in_the_overhang_of_an_edge_cell_selects_nothing() -> None:
    lattice = _lattice(extent=(950, 800))
    mask = np.ones((80, 100), dtype=bool)
    assert lattice.select(mask, 10, 10, box(960, 0, 990, 50)).shape == (0, 2)
    assert lattice.select(mask, 10, 10, box(940, 0, 990, 50)).tolist() == [[9, 0]]


def test_roi_beside_the_tissue_selects_nothing() -> None:
    mask = np.zeros((80, 100), dtype=bool)
    mask[0, 0] = True
    found = _lattice().select(mask, 10, 10, box(50, 50, 90, 90))
    assert found.shape == (0, 2)
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    "roi",
    [Polygon(), Point(3, 3), Polygon([(0, 0), (500, 500), (500, 0), (0, 500)])],
    ids=["empty", "point", "crossing"],
)
def test_roi_without_a_clear_area_is_refused(roi: Any) -> None:
    with pytest.raises(UsageError, match="ROI"):
        _lattice().select(np.ones((80, 100), dtype=bool), 10, 10, roi)


def test_tissue_outside_the_bounds_does_not_count() -> None:
    lattice = _lattice(origin_px=(300, 300), extent=(250, 250))
    mask = np.zeros((100, 100), dtype=bool)
    mask[29, 29] = mask[55, 55] = True
    assert len(lattice.select(mask, 10, 10)) == 0
    mask[54, 54] = True
    assert lattice.select(mask, 10, 10).tolist() == [[2, 2]]


@pytest.mark.parametrize("extent", [(1, 5000), (7, 3), (99, 99), (100, 100), (101, 1)])
def test_slides_smaller_than_a_region(extent: tuple[int, int]) -> None:
    lattice = _lattice(extent=extent)
    assert lattice.n_cols == -(-extent[0] // 100)
    assert lattice.n_rows == -(-extent[1] // 100)
    cells = lattice.select(np.ones((1, 1), dtype=bool), *extent)
    np.testing.assert_array_equal(cells, lattice.all_cells())
    assert lattice.is_edge(cells)[-1] == (extent != (100, 100))


def test_rounding_of_places() -> None:
    """Region of 100 px at 0.5 um/px on 0.3 um/px: 166.66 level-0 px each."""
    lattice = _lattice(slide_mpp=(0.3, 0.3))
    boxes = lattice.boxes([(0, 0), (1, 0), (2, 0)])
    assert boxes[:, 0].tolist() == [0, 167, 333]
    assert boxes[:, 2].tolist() == [167, 333, 500]


@pytest.mark.parametrize(
    "values",
    [
        {"region_px": 0},
        {"stride_px": 0},
        {"stride_px": 101},
        {"extent_px": (0, 5)},
        {"model_mpp": 0.0},
        {"model_mpp": float("nan")},
        {"slide_mpp": (0.5, -0.5)},
        {"region_px": 1, "stride_px": 1, "model_mpp": 0.1},
    ],
)
def test_senseless_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        _lattice(**values)


@pytest.mark.parametrize(
    "change",
    [{"extent_px": [1]}, {"region_px": "a"}, {"more": 1}, {"slide_mpp": None}, {"stride_px": 0}],
)
def test_damaged_dict_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Lattice.from_dict({**_lattice().to_dict(), **change})
    with pytest.raises(UsageError, match="origin_px"):
        Lattice.from_dict({})


@pytest.mark.parametrize("mask", [np.ones(4, dtype=bool), np.ones((2, 2, 2), dtype=bool)])
def test_masks_that_are_not_flat_are_refused(mask: Any) -> None:
    with pytest.raises(UsageError, match="mask"):
        _lattice().select(mask, 1, 1)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_mask_scale_is_checked(scale: float) -> None:
    with pytest.raises(UsageError, match="scale"):
        _lattice().select(np.ones((4, 4), dtype=bool), scale, 1)


def test_many_cells_cost_little_more_than_few() -> None:
    """A hundred thousand cells with a ragged ROI, against a thousand: no loop over cells.

    Only those on the ROI's edge are looked at one by one, ten times as many here.
    """

    def lines_run(side: int) -> int:
        lattice = _lattice(extent=(side, side))
        mask = np.random.default_rng(0).random((1000, 1000)) < 0.5
        circle = Point(side / 2, side / 2).buffer(side / 2.2, quad_segs=32)
        roi = circle.difference(affinity.scale(circle, 0.3, 0.3))
        count = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            cells = lattice.select(mask, side / 1000, side / 1000, roi)
        finally:
            sys.settrace(before)
        assert 0.5 * (side / 100) ** 2 < len(cells) < (side / 100) ** 2
        return count

    assert lines_run(32_000) < 25 * lines_run(3200)


@given(lattices(overlapping=True), st.integers(0, 2**32 - 1))
def test_tissue_shares_add_up_what_each_level_0_pixel_is(lattice: Lattice, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = lattice.all_cells()
    cells = cells[rng.integers(len(cells), size=min(len(cells), 5))]
    far = np.add(lattice.origin_px, lattice.extent_px)
    mask = rng.random((rng.integers(1, 9), rng.integers(1, 9))) < 0.5
    scale_x, scale_y = far[0] / mask.shape[1], far[1] / mask.shape[0]
    shares = lattice.tissue_shares(mask, scale_x, scale_y, cells)
    for share, (x0, y0, x1, y1) in zip(shares, lattice.boxes(cells), strict=True):
        expected = 0.0
        for row, col in np.argwhere(mask):
            width = min(x1, far[0], (col + 1) * scale_x) - max(x0, col * scale_x)
            height = min(y1, far[1], (row + 1) * scale_y) - max(y0, row * scale_y)
            expected += max(0.0, width) * max(0.0, height)
        assert share == pytest.approx(expected / ((x1 - x0) * (y1 - y0)), abs=1e-5)


@given(lattices(overlapping=True))
def test_what_is_inside_is_what_is_tissue_where_all_is(lattice: Lattice) -> None:
    cells = lattice.all_cells()
    x, y = np.add(lattice.origin_px, lattice.extent_px)
    everywhere = lattice.tissue_shares(np.ones((1, 1), bool), x, y, cells)
    inside = lattice.inside_shares(cells)
    np.testing.assert_allclose(inside, everywhere, atol=1e-5)
    np.testing.assert_array_equal(inside < 1, lattice.is_edge(cells))
    assert (inside > 0).all()
