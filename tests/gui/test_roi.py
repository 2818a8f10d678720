"""Shapes drawn in napari become polygons in level-0 px."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from napari.layers import Image, Shapes

from napari_xt.layers import slide_layer
from napari_xt.pyramid import Pyramid
from napari_xt.roi import roi_from_shapes
from xt_backend.errors import AnnotationError

from .conftest import write_slide


@pytest.fixture
def slide(tmp_path: Path, noisy_image: Any) -> Image:
    data, options, _ = slide_layer(Pyramid(write_slide(tmp_path / "s.tiff", noisy_image, 0.5)))
    return Image(data, **options)


# Pixels 100..199 in y and 300..499 in x: corners at whole numbers in the file's frame.
SQUARE = np.array([[99.5, 299.5], [99.5, 499.5], [199.5, 499.5], [199.5, 299.5]])
BOX = shapely.box(300, 100, 500, 200)


def same(geometry: dict[str, Any], wanted: Any) -> bool:
    return bool(
        shapely.equals_exact(
            shapely.normalize(shapely.geometry.shape(geometry)), shapely.normalize(wanted), 1e-6
        )
    )


def test_frames_and_units_come_out_the_same(slide: Image) -> None:
    for options in (
        {"scale": slide.scale, "units": slide.units},
        {"scale": (0.0005, 0.0005), "units": ("mm", "mm")},
        {"scale": (0.5, 0.5)},
    ):
        assert same(roi_from_shapes(Shapes([SQUARE], **options), slide), BOX)
    drawn_in_um = Shapes([SQUARE * 0.5], shape_type="polygon", units=("um", "um"))
    assert same(roi_from_shapes(drawn_in_um, slide), BOX)
    slide.translate = (1000, -500)
    moved = Shapes([SQUARE], scale=slide.scale, translate=slide.translate, units=slide.units)
    assert same(roi_from_shapes(moved, slide), BOX)


def test_shapes_are_joined_and_lines_left_out(slide: Image) -> None:
    shapes = Shapes(scale=slide.scale, units=slide.units)
    shapes.add_rectangles(SQUARE)
    shapes.add_polygons(np.add(SQUARE, (100, 0)))
    shapes.add_lines(np.array([[0, 0], [1000, 1000]]))
    shapes.add_paths(np.array([[0, 0], [1000, 1000], [0, 1000]]))
    assert same(
        shapely.geometry.mapping(
            shapely.remove_repeated_points(
                shapely.geometry.shape(roi_from_shapes(shapes, slide)).simplify(0)
            )
        ),
        shapely.box(300, 100, 500, 300),
    )


def test_ellipses(slide: Image) -> None:
    shapes = Shapes(scale=slide.scale, units=slide.units)
    shapes.add_ellipses(SQUARE)
    found = shapely.geometry.shape(roi_from_shapes(shapes, slide))
    np.testing.assert_allclose(found.bounds, BOX.bounds, atol=1e-6)
    np.testing.assert_allclose(found.area, np.pi * 100 * 50, rtol=0.01)


def test_a_loop_that_crosses_itself_still_counts(slide: Image) -> None:
    bow_tie = SQUARE[[0, 2, 1, 3]]
    shapes = Shapes([bow_tie], shape_type="polygon", scale=slide.scale, units=slide.units)
    found = shapely.geometry.shape(roi_from_shapes(shapes, slide))
    assert found.is_valid
    np.testing.assert_allclose(found.area, BOX.area / 2)


def test_nothing_closed_is_told(slide: Image) -> None:
    empty = Shapes(scale=slide.scale, units=slide.units, name="Shapes of mine")
    with pytest.raises(AnnotationError, match="Shapes of mine"):
        roi_from_shapes(empty, slide)
    empty.add_lines(np.array([[0, 0], [10, 10]]))
    with pytest.raises(AnnotationError, match="closed"):
        roi_from_shapes(empty, slide)
