"""`napari-xt view`: the slide with its own result, and pictures of the window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from napari_xt import layers as lay
from napari_xt.pyramid import Pyramid
from napari_xt.view import find_result, open_view, save_screenshot
from xt_backend.errors import InputNotFoundError, OutputConflictError, SlideOpenError

from .conftest import write_slide
from .maps import score_map


@pytest.fixture
def slide(tmp_path: Path, noisy_image: Any) -> Path:
    return write_slide(tmp_path / "slide.tiff", noisy_image[:700, :1000])


@pytest.fixture
def viewers(make_napari_viewer: Any) -> Iterator[list[Any]]:
    """Viewers made by the code under test; napari's fixture only knows those that it made."""
    opened: list[Any] = []
    yield opened
    for viewer in opened:
        viewer.close()


def test_slide_and_result_lie_on_each_other(
    viewers: list[Any], slide: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    found = score_map(name="slide.tiff")
    found.save(run / "slide.run.h5")
    score_map(name="other.tiff").save(run / "a.run.h5")
    viewer = open_view(slide, run, show=False)
    viewers.append(viewer)
    (shown,) = [layer for layer in viewer.layers if layer.name == "slide.tiff"]
    (classes,) = [layer for layer in viewer.layers if layer.name.startswith("xT classes")]
    np.testing.assert_array_equal(classes.data, lay.class_map(found))
    corner = (-0.5, -0.5)
    np.testing.assert_allclose(classes.data_to_world(corner), shown.data_to_world(corner))
    assert classes.units == shown.units
    picture = tmp_path / "window.png"
    save_screenshot(viewer, picture, width_px=900, height_px=600)
    with Picture.open(picture) as image:
        assert image.width >= 600
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
        assert len(colours) > 50


def test_without_a_run_there_is_just_the_slide(viewers: list[Any], slide: Path) -> None:
    viewer = open_view(slide, show=False)
    viewers.append(viewer)
    assert [layer.name for layer in viewer.layers] == ["slide.tiff"]
    assert viewer.window.dock_widgets


def test_results_of_other_slides_are_refused(slide: Path, tmp_path: Path) -> None:
    info = Pyramid(slide).info
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(InputNotFoundError, match="no result"):
        find_result(run, info)
    with pytest.raises(InputNotFoundError):
        find_result(tmp_path / "gone", info)
    score_map(name="slide.tiff", bounds_px=(0, 0, 300, 300)).save(run / "slide.run.h5")
    with pytest.raises(OutputConflictError, match="300 x 300"):
        find_result(run / "slide.run.h5", info)
    with pytest.raises(OutputConflictError):
        find_result(run, info)


def test_a_pseudonymous_result_is_found_when_it_is_the_only_one(
    slide: Path, tmp_path: Path
) -> None:
    info = Pyramid(slide).info
    run = tmp_path / "run"
    run.mkdir()
    score_map(name="8f2a").save(run / "8f2a.run.h5")
    assert find_result(run, info).slide_name == "8f2a"
    shutil.copy(run / "8f2a.run.h5", run / "b.run.h5")
    with pytest.raises(InputNotFoundError, match="2 others"):
        find_result(run, info)


def test_no_window_opens_for_a_slide_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "no.svs").write_text("no")
    with pytest.raises(SlideOpenError):
        open_view(tmp_path / "no.svs", show=False)
