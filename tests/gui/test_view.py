"""`napari-xt view`: the slide with its own result, and pictures of the window."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from napari_xt import layers as lay
from napari_xt.view import find_result, open_view, save_screenshot
from xt_backend import open_slide, score
from xt_backend.errors import InputNotFoundError, OutputConflictError, SlideOpenError, StoreError
from xt_backend.keys import Doubt, RunH5, RunMeta

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
    with open_slide(slide) as opened:
        identity = opened.identity()
    found = score_map(name="slide.tiff", run_meta={RunH5.META_SLIDE_IDENTITY: identity})
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


def test_a_result_of_another_pixel_size_lies_on_the_tissue(
    viewers: list[Any], noisy_image: Any, tmp_path: Path
) -> None:
    """`score --slide-mpp` overrules the file; the window has to follow."""
    slide = write_slide(tmp_path / "slide.tiff", noisy_image[:700, :1000], 0.25)
    with open_slide(slide) as opened:
        identity = {RunH5.META_SLIDE_IDENTITY: opened.identity()}
    found = score_map(name="slide.tiff", slide_mpp=(0.5, 0.5), run_meta=identity)
    found.save(tmp_path / "slide.run.h5")
    viewer = open_view(slide, tmp_path, show=False)
    viewers.append(viewer)
    (shown,) = [layer for layer in viewer.layers if layer.name == "slide.tiff"]
    (classes,) = [layer for layer in viewer.layers if layer.name.startswith("xT classes")]
    np.testing.assert_allclose(shown.scale, 0.5)
    for (column, row), box in zip(found.cells, found.lattice.boxes(found.cells), strict=True):
        y, x = shown.world_to_data(classes.data_to_world((row - 0.5, column - 0.5)))
        np.testing.assert_allclose((x + 0.5, y + 0.5), box[:2], atol=1e-6)
    (panel,) = viewer.window.dock_widgets.values()
    panel = getattr(panel, "inner_widget", lambda: panel)()
    assert "0.5 µm per pixel" in panel.results.headline.text()
    assert "the file states 0.25" in panel.results.headline.text()


def test_what_a_run_warned_of_is_told_again(
    viewers: list[Any], slide: Path, tmp_path: Path
) -> None:
    with open_slide(slide) as opened:
        identity = opened.identity()
    meta = {RunH5.META_SLIDE_IDENTITY: identity, RunMeta.WARNINGS: ["Its colours are others"]}
    found = score_map(name="slide.tiff", run_meta=meta)
    blurred = np.zeros(len(found), np.uint8)
    blurred[0] = Doubt.BLURRED
    dataclasses.replace(found, quality=blurred).save(tmp_path / "slide.run.h5")
    viewer = open_view(slide, tmp_path, show=False)
    viewers.append(viewer)
    (panel,) = viewer.window.dock_widgets.values()
    panel = getattr(panel, "inner_widget", lambda: panel)()
    told = panel.results.headline.text()
    assert "Warning: Its colours are others." in told
    assert "1 region looks doubtful" in told


def test_without_a_run_there_is_just_the_slide(viewers: list[Any], slide: Path) -> None:
    viewer = open_view(slide, show=False)
    viewers.append(viewer)
    assert [layer.name for layer in viewer.layers] == ["slide.tiff"]
    assert viewer.window.dock_widgets


def test_both_ends_of_a_wide_slide_are_in_view_beside_the_panel(
    viewers: list[Any], tmp_path: Path, qtbot: Any
) -> None:
    image = np.full((256, 2048, 3), 230, np.uint8)
    image[:, :64], image[:, -64:] = (255, 0, 0), (0, 0, 255)
    viewer = open_view(write_slide(tmp_path / "wide.tiff", image))
    viewers.append(viewer)

    def shows_both_ends() -> bool:
        shown = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        red, blue = shown[..., 0] - shown[..., 2] > 150, shown[..., 2] - shown[..., 0] > 150
        # Not a sliver of either: as wide as it was drawn.
        return min(part.any(axis=0).sum() for part in (red, blue)) >= 0.02 * shown.shape[1]

    until = time.monotonic() + 30
    while not shows_both_ends() and time.monotonic() < until:
        qtbot.wait(100)
    assert shows_both_ends()


def test_results_of_other_slides_are_refused(slide: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    # Of the same name and size, but of another content; and one that says nothing.
    stranger = score_map(name="slide.tiff", run_meta={RunH5.META_SLIDE_IDENTITY: "0" * 64})
    with open_slide(slide) as opened:
        with pytest.raises(InputNotFoundError, match="no result"):
            find_result(run, opened)
        with pytest.raises(InputNotFoundError):
            find_result(tmp_path / "gone", opened)
        for other in (stranger, score_map(name="slide.tiff")):
            other.save(run / "slide.run.h5")
            with pytest.raises(OutputConflictError, match=r"slide\.tiff"):
                find_result(run / "slide.run.h5", opened)
            with pytest.raises(InputNotFoundError, match="1 of other slides"):
                find_result(run, opened)


def test_the_result_is_known_by_the_content_alone(slide: Path, tmp_path: Path) -> None:
    """Pseudonymous runs keep no name, and a slide may have been renamed since."""
    run = tmp_path / "run"
    run.mkdir()
    with open_slide(slide) as opened:
        own = {RunH5.META_SLIDE_IDENTITY: opened.identity()}
        score_map(name="8f2a", run_meta=own).save(run / "8f2a.run.h5")
        stranger = {RunH5.META_SLIDE_IDENTITY: "0" * 64}
        score_map(name="slide.tiff", run_meta=stranger).save(run / "slide.run.h5")
        assert find_result(run, opened).slide_name == "8f2a"
        assert find_result(run / "8f2a.run.h5", opened).slide_name == "8f2a"


def test_damaged_results_of_others_are_in_nobodys_way(slide: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "slide-2.run.h5").write_bytes(b"cut off")
    with open_slide(slide) as opened:
        with pytest.raises(InputNotFoundError, match=r"1 that cannot be read: .*slide-2"):
            find_result(run, opened)
        own = {RunH5.META_SLIDE_IDENTITY: opened.identity()}
        score_map(name="z.tiff", run_meta=own).save(run / "z.run.h5")
        assert find_result(run, opened).slide_name == "z.tiff"
        with pytest.raises(StoreError):
            find_result(run / "slide-2.run.h5", opened)


def test_what_score_wrote_is_found_after_the_slide_was_renamed(
    tissue_slide: Path, tiny_model: Path, tmp_path: Path
) -> None:
    score([tissue_slide], tiny_model, out=tmp_path / "run")
    renamed = Path(shutil.copy(tissue_slide, tmp_path / "renamed.tiff"))
    with open_slide(renamed) as opened:
        assert find_result(tmp_path / "run", opened).slide_name == tissue_slide.name


def test_no_window_opens_for_a_slide_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "no.svs").write_text("no")
    with pytest.raises(SlideOpenError):
        open_view(tmp_path / "no.svs", show=False)
