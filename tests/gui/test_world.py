"""Slides, results and drawings stay on each other whatever pixel size is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_xt.layers import class_map, lattice_transform, score_map_layers, slide_layer
from napari_xt.overlay import Overlay
from napari_xt.pyramid import Pyramid
from napari_xt.world import shown_mpp, slide_frame, use_mpp

from .conftest import write_slide
from .maps import score_map


def add_slide(viewer: ViewerModel, path: Path) -> Image:
    data, options, _ = slide_layer(Pyramid(path))
    return viewer.add_layer(Image(data, **options))


def level0_px(slide: Image, item: Any, place: tuple[float, float]) -> Any:
    """(y, x) of the slide under a place of another layer, pixel corners at whole numbers."""
    return np.array(slide.world_to_data(item.data_to_world(place))) + 0.5


@pytest.mark.parametrize("stated", [None, 0.25])
def test_a_corrected_pixel_size_moves_slide_and_drawings_together(
    tmp_path: Path, noisy_image: Any, stated: float | None
) -> None:
    viewer = ViewerModel()
    slide = add_slide(viewer, write_slide(tmp_path / "s.tiff", noisy_image, stated))
    twin = viewer.add_layer(Image(slide.data, **_like(slide)))
    other = add_slide(viewer, write_slide(tmp_path / "o.tiff", noisy_image, stated))
    drawn = viewer.add_points([[100, 300]], scale=slide.scale, units=slide.units)
    result = viewer.add_labels(np.ones((3, 3), int), **_placed(score_map()))
    others = [(other, other.scale.copy()), (result, result.scale.copy())]
    assert shown_mpp(slide) == (None if stated is None else (stated, stated))
    before = viewer.scene.camera.zoom * slide.scale[0]
    for mpp in ((0.5, 0.5), (0.25, 0.24), (0.25, 0.24)):
        use_mpp(viewer, slide, mpp, "user")
        assert shown_mpp(slide) == mpp
        for layer in (slide, twin):
            np.testing.assert_allclose(layer.scale, mpp[::-1])
            assert {str(unit) for unit in layer.units} == {"micrometer"}
            assert layer.metadata["napari-xt"]["mpp_source"] == "user"
        np.testing.assert_allclose(slide.world_to_data(drawn.data_to_world((100, 300))), (100, 300))
        np.testing.assert_allclose(viewer.scene.camera.zoom * slide.scale[0], before, rtol=0.05)
        assert "unknown" not in slide.name
    for layer, scale in others:
        np.testing.assert_array_equal(layer.scale, scale)


def _like(slide: Image) -> dict[str, Any]:
    kept = ("scale", "units", "metadata", "name")
    return {"multiscale": True, "rgb": True, **{name: getattr(slide, name) for name in kept}}


def _placed(found: Any) -> dict[str, Any]:
    (*_, (_, options, _)) = score_map_layers(found)
    return {name: options[name] for name in ("scale", "translate", "units", "metadata")}


def test_the_overlay_follows_a_slide_that_was_moved_and_turned(
    tmp_path: Path, noisy_image: Any
) -> None:
    viewer = ViewerModel()
    slide = add_slide(viewer, write_slide(tmp_path / "s.tiff", noisy_image, 0.5))
    np.testing.assert_array_equal(slide_frame(slide, (0.5, 0.5)), np.eye(3))
    slide.translate, slide.rotate = (4000.0, -900.0), 90.0
    slide.affine = [[0.0, -1.0, 70.0], [1.0, 0.0, 5.0], [0.0, 0.0, 1.0]]
    found = score_map(bounds_px=(40, 30, 1000, 700))
    overlay = Overlay(viewer, found, slide=slide)
    for layer in overlay.layers:
        for (column, row), box in zip(found.cells, found.lattice.boxes(found.cells), strict=True):
            upper_left = level0_px(slide, layer, (row - 0.5, column - 0.5))
            np.testing.assert_allclose(upper_left, box[[1, 0]], atol=1e-6)


def test_a_moved_slide_keeps_its_place_when_the_pixel_size_is_corrected(
    tmp_path: Path, noisy_image: Any
) -> None:
    viewer = ViewerModel()
    slide = add_slide(viewer, write_slide(tmp_path / "s.tiff", noisy_image, 0.25))
    slide.translate = (100.0, 200.0)
    use_mpp(viewer, slide, (0.5, 0.5), "user")
    np.testing.assert_allclose(slide.translate, (200, 400))
    found = score_map(slide_mpp=(0.5, 0.5))
    overlay = Overlay(viewer, found, slide=slide)
    np.testing.assert_allclose(level0_px(slide, overlay.classes, (-0.5, -0.5)), 0, atol=1e-6)
    # Alone, as when a result is dropped on napari, it is in um of the file's frame.
    np.testing.assert_allclose(overlay.classes.scale, lattice_transform(found)[0])


def test_another_run_of_the_slide_uses_the_same_layers(tmp_path: Path, noisy_image: Any) -> None:
    viewer = ViewerModel()
    slide = add_slide(viewer, write_slide(tmp_path / "s.tiff", noisy_image, 0.5))
    overlay = Overlay(viewer, score_map(), slide=slide)
    before = list(viewer.layers)
    overlay.classes.opacity, overlay.classes.visible = 0.3, False
    slide.translate = (30.0, 40.0)
    logits = np.tile(np.float32([0, 0, 5]), (69, 1))
    again = score_map(logits=logits, status=np.zeros(69, np.uint8), model_name="other")
    assert overlay.restart(again, slide)
    assert list(viewer.layers) == before
    assert overlay.classes.opacity == 0.3
    assert overlay.classes.visible  # hidden, a run would show nothing
    assert not overlay.status.visible
    np.testing.assert_array_equal(overlay.classes.data, class_map(again))
    np.testing.assert_allclose(level0_px(slide, overlay.classes, (-0.5, -0.5)), 0, atol=1e-6)
    assert overlay.classes.metadata["napari-xt"]["model"] == "other"


def test_a_run_that_does_not_fit_the_layers_gets_new_ones(tmp_path: Path, noisy_image: Any) -> None:
    viewer = ViewerModel()
    slide = add_slide(viewer, write_slide(tmp_path / "s.tiff", noisy_image, 0.5))
    twin = add_slide(viewer, write_slide(tmp_path / "t.tiff", noisy_image, 0.5))
    found = score_map()
    overlay = Overlay(viewer, found, slide=slide)
    data = overlay.classes.data
    assert not overlay.restart(found, twin)
    assert not overlay.restart(score_map(region_px=50), slide)
    assert not overlay.restart(score_map(classes=("normal", "odd", "tumour")), slide)
    assert not overlay.restart(score_map(slide_mpp=(0.25, 0.25)), slide)
    viewer.layers.remove(overlay.probabilities[0])
    assert not overlay.restart(found, slide)
    assert overlay.classes.data is data
