from __future__ import annotations

import numpy as np
import pytest

from xt_backend.errors import UsageError
from xt_backend.slides import Lattice
from xt_backend.store import MaskGrid, Points


def lattice(**changes: object) -> Lattice:
    fields: dict[str, object] = {
        "bounds_px": (100, 60, 1000, 700),
        "slide_mpp": (0.25, 0.25),
        "model_mpp": 0.5,
        "region_px": 64,
        **changes,
    }
    return Lattice.for_bounds(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("slide_mpp", [(0.25, 0.25), (0.23, 0.24), (0.5, 0.5)])
def test_the_grid_covers_the_bounds_from_the_lattices_origin(
    slide_mpp: tuple[float, float],
) -> None:
    places = lattice(slide_mpp=slide_mpp)
    grid = MaskGrid(places)
    assert grid.mpp == 2.0
    height, width = grid.shape
    affine = grid.affine_to_level0()
    assert affine[:2, 2].tolist() == [100, 60]
    right, bottom = (affine @ [width, height, 1])[:2]
    assert abs(right - 1100) <= grid.step_px[0] / 2
    assert abs(bottom - 760) <= grid.step_px[1] / 2
    # The first pixel of each region lies at the corner of its box.
    for col, row in ((0, 0), (3, 2)):
        x0_px, y0_px = places.boxes([(col, row)])[0, :2]
        corner = (affine @ [col * 16, row * 16, 1])[:2]
        assert np.abs(corner - (x0_px, y0_px)).max() <= 0.5


def test_masks_are_put_in_their_places_and_cut_at_the_bounds() -> None:
    places = lattice()
    grid = MaskGrid(places)
    assert grid.shape == (88, 125)
    canvas = np.zeros(grid.shape, np.uint8)
    cells = places.all_cells()[::3]
    masks = np.broadcast_to(
        np.arange(1, len(cells) + 1, dtype=np.uint8)[:, None, None], (len(cells), 16, 16)
    )
    grid.paste(canvas, cells, masks)
    expected = np.zeros((places.n_rows * 16, places.n_cols * 16), np.uint8)
    for number, (col, row) in enumerate(cells.tolist(), 1):
        expected[row * 16 : row * 16 + 16, col * 16 : col * 16 + 16] = number
    np.testing.assert_array_equal(canvas, expected[:88, :125])
    assert expected.shape[0] > 88  # something was cut


def test_of_overlapping_regions_each_shows_its_middle() -> None:
    places = lattice(stride_px=32)
    grid = MaskGrid(places)
    canvas = np.zeros(grid.shape, np.uint8)
    cells = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.int32)
    masks = np.ones((4, 16, 16), np.uint8) * np.arange(1, 5, dtype=np.uint8)[:, None, None]
    for cell, mask in zip(cells[::-1], masks[::-1], strict=True):  # in any order
        grid.paste(canvas, cell[None], mask[None])
    expected = np.zeros((24, 24), np.uint8)
    expected[:12, :12], expected[:12, 12:], expected[12:, :12], expected[12:, 12:] = 1, 2, 3, 4
    np.testing.assert_array_equal(canvas[4:20, 4:20], expected[4:20, 4:20])
    assert canvas[:24, :24].all()
    assert not canvas[24:].any()
    assert not canvas[:, 24:].any()
    # A region without neighbours shows all of itself.
    alone = np.zeros(grid.shape, np.uint8)
    grid.paste(alone, cells[3:], masks[3:])
    assert (alone[8:24, 8:24] == 4).all()
    assert alone.sum() == 4 * 256


def test_a_slide_smaller_than_a_pixel_has_one() -> None:
    assert MaskGrid(lattice(bounds_px=(0, 0, 1, 3))).shape == (1, 1)


def test_points_are_columns_of_one_length() -> None:
    points = Points(np.array([1, 2, 3]), np.array([4, 5, 6]), np.array([0, 1, 0]), np.zeros(3))  # type: ignore[arg-type]
    assert points.kind.dtype == np.int32
    assert points.counts(["a", "b", "c"]) == {"a": 2, "b": 1, "c": 0}
    both = Points.joined([points, Points.none(), points.take(np.array([2]))])
    assert both.x_px.tolist() == [1, 2, 3, 3]
    assert len(Points.joined([])) == 0
    with pytest.raises(UsageError, match="shapes"):
        Points(np.zeros(2), np.zeros(3), np.zeros(3), np.zeros(3))  # type: ignore[arg-type]
