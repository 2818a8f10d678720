"""Tissue from outlines, from painted masks, and all of a slide."""

from __future__ import annotations

import numpy as np
import pytest
from shapely.geometry import MultiPolygon, Polygon, box

from xt_backend.errors import AnnotationError
from xt_backend.slides import Lattice, Shape, everything, tissue_from_mask, tissue_from_shapes


def test_everything_is_all_of_the_slide() -> None:
    tissue = everything(40_000, 10_001)
    assert tissue.mask.shape == (256, 1024)
    assert tissue.mask.all()
    assert (tissue.kind, tissue.fraction(), tissue.glass_rgb) == ("all", 1.0, None)
    assert (tissue.scale_x, tissue.scale_y) == (40_000 / 1024, 10_001 / 256)


@pytest.mark.parametrize("bounds", [(4000, 4100, 2048, 2000), (9, 1, 1, 1), (0, 0, 10_048, 10_000)])
def test_everything_covers_the_bounds_and_little_more(bounds: tuple[int, int, int, int]) -> None:
    x, y, width, height = bounds
    tissue = everything(10_048, 10_000, bounds)
    rows, cols = np.nonzero(tissue.mask)
    for start, size, scale, hits in (
        (x, width, tissue.scale_x, cols),
        (y, height, tissue.scale_y, rows),
    ):
        assert hits.min() * scale <= start < (hits.min() + 1) * scale
        assert hits.max() * scale < start + size <= (hits.max() + 1) * scale + 1e-6
    assert tissue.fraction() == 1.0


def test_everything_selects_every_region_of_the_bounds() -> None:
    bounds = (4003, 4101, 2050, 1999)
    lattice = Lattice(bounds[:2], bounds[2:], 64, 64, 1.0, (0.5, 0.5))
    tissue = everything(100_000, 90_000, bounds)
    cells = lattice.select(tissue.mask, tissue.scale_x, tissue.scale_y, None)
    np.testing.assert_array_equal(cells, lattice.all_cells())


def test_outlines_with_holes_fill_their_area() -> None:
    ring = Polygon(
        [(100, 50), (900, 60), (880, 700), (120, 650)], [box(300, 200, 500, 400).exterior.coords]
    )
    tissue = tissue_from_shapes([Shape(None, ring)], 1000, 800)
    assert tissue.mask.shape == (800, 1000)
    assert tissue.mask.sum() == pytest.approx(ring.area, rel=0.01)
    assert tissue.mask[100, 200]
    assert not tissue.mask[300, 400]
    assert (tissue.kind, tissue.scale_x) == ("partial", 1.0)
    assert tissue.fraction() == pytest.approx(ring.area / 800_000, rel=0.01)


def test_a_coarse_mask_has_its_own_scale() -> None:
    area = box(20_000, 10_000, 60_000, 30_000)
    tissue = tissue_from_shapes([Shape("Tissue", area)], 100_000, 50_000, max_px=500)
    assert tissue.mask.shape == (250, 500)
    assert (tissue.scale_x, tissue.scale_y) == (200.0, 200.0)
    rows, cols = np.nonzero(tissue.mask)
    assert (cols.min(), rows.min()) == (100, 50)
    assert abs(cols.max() - 299) <= 1
    assert abs(rows.max() - 149) <= 1


def test_a_hole_does_not_cut_into_another_outline() -> None:
    first = Polygon(box(10, 10, 90, 90).exterior.coords, [box(30, 30, 70, 70).exterior.coords])
    second = MultiPolygon([box(40, 40, 60, 60), box(0, 0, 5, 5)])
    mask = tissue_from_shapes([Shape(None, second), Shape(None, first)], 100, 100).mask
    assert mask[50, 50]
    assert mask[2, 2]
    assert not mask[35, 35]


@pytest.mark.parametrize("name", ["Exclude", "ignore*", "Background"])
def test_excluded_classes_cut_out_whatever_their_order(name: str) -> None:
    shapes = [Shape(name, box(20, 20, 40, 40)), Shape("Tumor", box(10, 10, 90, 90))]
    mask = tissue_from_shapes(shapes, 100, 100).mask
    assert not mask[25:35, 25:35].any()
    assert mask[60:80, 60:80].all()


def test_outlines_may_reach_beyond_the_slide() -> None:
    tissue = tissue_from_shapes([Shape(None, box(-500, -70_000, 50, 1e6))], 100, 80)
    assert tissue.mask[:, :49].all()
    assert not tissue.mask[:, 52:].any()
    assert tissue_from_shapes([Shape(None, box(-9, -9, 999, 999))], 100, 80).kind == "all"


def test_a_tiny_outline_still_marks_a_pixel() -> None:
    tissue = tissue_from_shapes(
        [Shape(None, box(50_000, 50_000, 50_010, 50_010))], 100_000, 100_000
    )
    assert 1 <= tissue.mask.sum() <= 4
    assert tissue.mask[int(50_005 / tissue.scale_y), int(50_005 / tissue.scale_x)]


@pytest.mark.parametrize("shapes", [[], [Shape("Exclude", box(0, 0, 9, 9))]])
def test_no_outline_of_tissue_is_refused(shapes: list[Shape]) -> None:
    with pytest.raises(AnnotationError, match="no outline of tissue"):
        tissue_from_shapes(shapes, 100, 100)


def test_outlines_of_another_slide_are_refused() -> None:
    with pytest.raises(AnnotationError, match="lies on the slide"):
        tissue_from_shapes([Shape(None, box(200, 200, 300, 300))], 100, 100)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, float])
def test_a_painted_mask_is_taken_as_it_is(dtype: type) -> None:
    painted = np.zeros((50, 80), dtype)
    painted[10:20, 30:40] = 1
    tissue = tissue_from_mask(painted, 8000, 5000)
    np.testing.assert_array_equal(tissue.mask, painted > 0)
    assert (tissue.scale_x, tissue.scale_y, tissue.kind) == (100.0, 100.0, "partial")
    assert tissue.fraction() == pytest.approx(100 / 4000)
    assert tissue_from_mask(np.zeros_like(painted), 8000, 5000).kind == "none"


def test_a_mask_of_a_rounded_size_fits() -> None:
    assert tissue_from_mask(np.ones((619, 579)), 9274, 9911).kind == "all"
    assert tissue_from_mask(np.ones((620, 580)), 9274, 9911).kind == "all"


@pytest.mark.parametrize("shape", [(80, 50), (50, 50), (50, 80, 3), (0, 0), (7,)])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AnnotationError, match="tissue mask"):
        tissue_from_mask(np.ones(shape), 8000, 5000)
