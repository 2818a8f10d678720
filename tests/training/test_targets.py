from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from xt_backend.slides import Shape
from xt_backend.training.targets import Areas, visible_areas

CLASSES = {"a": 0, "b": 1, "c": 2}
EXTENT = (0, 0, 800, 600)


def lattice(step: int = 100, width: int = 800, height: int = 600) -> np.ndarray:
    return np.array(
        [(x, y, x + step, y + step) for y in range(0, height, step) for x in range(0, width, step)],
        np.int64,
    )


def blob(rng: np.random.Generator, n: int = 60) -> shapely.Polygon:
    """A ragged outline, here and there over the edge of the slide."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = rng.uniform(0.6, 1.0, n) * rng.uniform(40, 260)
    centre = rng.uniform((0, 0), (800, 600))
    return shapely.Polygon(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))


@given(st.integers(0, 10_000))
def test_agrees_with_a_fine_raster(seed: int) -> None:
    """Painting the shapes one after another in pixels of 2 px gives the same shares."""
    rng = np.random.default_rng(seed)
    shapes = [Shape(str(rng.choice([*CLASSES])), blob(rng)) for _ in range(6)]
    found = Areas(shapes, CLASSES).targets(lattice(), EXTENT)
    x, y = np.meshgrid(np.arange(1, 800, 2), np.arange(1, 600, 2))
    painted = np.full(x.shape, -1)
    for shape in shapes:
        painted[shapely.contains_xy(shape.geometry, x, y)] = CLASSES[str(shape.name)]
    for row, (x0, y0, x1, y1) in enumerate(lattice()):
        part = painted[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2]
        for column in range(3):
            assert found.fractions[row, column] == pytest.approx((part == column).mean(), abs=0.02)
    assert found.annotated == pytest.approx(found.fractions.sum(axis=1), abs=1e-6)
    assert found.annotated.max() <= 1.0


def test_areas_are_exact_and_add_up() -> None:
    rng = np.random.default_rng(1)
    outline = blob(rng, n=5000).intersection(box(0, 0, 800, 600))
    found = Areas([Shape("b", outline)], CLASSES).targets(lattice(step=20), EXTENT)
    assert found.fractions[:, 1].astype(float).sum() * 400 == pytest.approx(outline.area, rel=1e-6)
    assert not found.fractions[:, [0, 2]].any()


def test_later_lies_over_earlier() -> None:
    whole, half = box(0, 0, 100, 100), box(0, 0, 50, 100)
    regions = lattice(width=100, height=100)
    one, other = Shape("a", whole), Shape("b", half)
    half_seen = Areas([one, other], CLASSES).targets(regions, EXTENT)
    assert half_seen.fractions.tolist() == [[0.5, 0.5, 0.0]]
    hidden = Areas([other, one], CLASSES).targets(regions, EXTENT)
    assert hidden.fractions.tolist() == [[1.0, 0.0, 0.0]]


def test_hole_is_not_annotated() -> None:
    ring = box(0, 0, 100, 100).difference(box(25, 25, 75, 75))
    found = Areas([Shape("c", ring)], CLASSES).targets(lattice(width=100, height=100), EXTENT)
    assert found.annotated.tolist() == [0.75]
    assert found.soft().tolist() == [[0.0, 0.0, 1.0]]


def test_what_has_no_class_or_no_area_hides_nothing() -> None:
    whole = box(0, 0, 100, 100)
    shapes = [
        Shape("a", whole),
        Shape(None, whole),
        Shape("unknown", whole),
        Shape("b", shapely.LineString([(0, 0), (100, 100)])),
        Shape("b", shapely.Point(5, 5)),
    ]
    found = Areas(shapes, CLASSES).targets(lattice(width=100, height=100), EXTENT)
    assert found.fractions.tolist() == [[1.0, 0.0, 0.0]]


def test_part_outside_the_slide_does_not_count() -> None:
    regions = np.array([[760, 500, 860, 600], [900, 0, 1000, 100]])
    found = Areas([Shape("a", box(0, 0, 5000, 5000))], CLASSES).targets(regions, EXTENT)
    assert found.annotated.tolist() == [1.0, 0.0]


def test_no_shapes_and_no_regions() -> None:
    assert not Areas([], CLASSES).targets(lattice(), EXTENT).annotated.any()
    one = Areas([Shape("a", box(0, 0, 9, 9))], CLASSES)
    none = one.targets(np.zeros((0, 4), np.int64), EXTENT)
    assert none.fractions.shape == (0, 3)


def test_visible_areas_do_not_overlap() -> None:
    rng = np.random.default_rng(5)
    shapes = [blob(rng) for _ in range(12)]
    visible = visible_areas(shapes)
    assert sum(part.area for part in visible) == pytest.approx(shapely.union_all(shapes).area)
    assert visible[-1].equals(shapes[-1])
