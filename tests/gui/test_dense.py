"""Masks and points over the slide: places, colours, growing, finished runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Points

from napari_xt import dense_layers as lay
from napari_xt.dense_overlay import DenseOverlay
from napari_xt.view import open_view
from xt_backend import store
from xt_backend.engine.events import RegionsDecoded
from xt_backend.keys import RunH5
from xt_backend.outputs import SlideMask, write_mask, write_points_csv
from xt_backend.slides import open_slide
from xt_backend.store import MaskGrid, ScoreMap

from .conftest import PATIENCE_MS, Brake, write_slide
from .maps import score_map


def dense_map(**changes: Any) -> ScoreMap:
    return score_map(task="dense", **changes)


def detection_map(**changes: Any) -> ScoreMap:
    return score_map(task="detection", classes=("none", "cell", "mitosis"), **changes)


def canvas_of(found: ScoreMap) -> Any:
    return np.random.default_rng(0).integers(0, 4, MaskGrid(found.lattice).shape, np.uint8)


def some_points(found: ScoreMap) -> store.Points:
    left, top = found.bounds_px[:2]
    return store.Points(
        np.array([left + 0.5, left + 100]),
        np.array([top + 0.5, top + 40]),
        np.array([1, 0], np.int32),
        np.float32([0.75, 0.9]),
    )


@pytest.mark.parametrize("slide_mpp", [(0.5, 0.5), (0.23, 0.24)])
@pytest.mark.parametrize("corner", [(0, 0), (512, 256)])
def test_mask_pixels_lie_on_the_slide(
    slide_mpp: tuple[float, float], corner: tuple[int, int]
) -> None:
    found = dense_map(slide_mpp=slide_mpp, bounds_px=(*corner, 1000, 700))
    data, options, kind = lay.mask_layer(SlideMask.of(canvas_of(found), found), "s")
    assert kind == "labels"
    layer = Labels(data, **options)
    affine = MaskGrid(found.lattice).affine_to_level0()
    for row, col in ((0, 0), (20, 33)):
        x_px, y_px = (affine @ [col, row, 1])[:2]
        world = layer.data_to_world((row - 0.5, col - 0.5))
        np.testing.assert_allclose(
            world, ((y_px - 0.5) * slide_mpp[1], (x_px - 0.5) * slide_mpp[0])
        )
    assert tuple(layer.colormap.map(2)[:3]) == pytest.approx((0xE6 / 255, 0x9F / 255, 0), abs=0.01)
    assert layer.colormap.map(0)[3] == 0
    assert layer.features["class"].tolist() == ["nothing", *found.classes]


def test_points_lie_on_the_slide_in_their_kinds_colour() -> None:
    found = detection_map(bounds_px=(512, 256, 1000, 700), slide_mpp=(0.25, 0.5))
    data, options, kind = lay.points_layer(some_points(found), found)
    assert kind == "points"
    layer = Points(data, **options)
    # The middle of the first pixel of the bounds is at whole pixels in napari's world.
    np.testing.assert_allclose(layer.data, [(256 * 0.5, 512 * 0.25), (295.5 * 0.5, 611.5 * 0.25)])
    assert layer.features["class"].tolist() == ["mitosis", "cell"]
    np.testing.assert_allclose(layer.face_color[0, :3], (0xCC / 255, 0, 0x33 / 255))
    empty, options, _ = lay.points_layer(store.Points.none(), found)
    assert len(Points(empty, **options).data) == 0


def event(found: ScoreMap, rows: slice, **values: Any) -> RegionsDecoded:
    done = rows.indices(len(found))[1]
    return RegionsDecoded("run", done, len(found), 1.0, 1.0, found.cells[rows], **values)


def test_a_mask_grows_in_one_layer() -> None:
    viewer, found = ViewerModel(), dense_map()
    overlay = DenseOverlay(viewer)
    side = found.lattice.region_px // 4
    for rows in (slice(0, 20), slice(20, len(found))):
        masks = np.full((len(found.cells[rows]), side, side), 2, np.uint8)
        overlay.put(event(found, rows, masks=masks), found)
        (layer,) = viewer.layers
        shown = np.asarray(layer.data if not layer.multiscale else layer.data[0])
        assert (shown == 2).sum() > 0
    overlay.finish(None, found)
    assert layer.name.startswith("xT mask")
    expected = np.zeros(MaskGrid(found.lattice).shape, np.uint8)
    masks = np.full((len(found), side, side), 2, np.uint8)
    MaskGrid(found.lattice).paste(expected, found.cells, masks)
    np.testing.assert_array_equal(shown, expected)
    overlay.remove()
    assert not viewer.layers


def test_points_grow_and_the_final_ones_replace_them() -> None:
    viewer, found = ViewerModel(), detection_map()
    overlay = DenseOverlay(viewer)
    overlay.put(event(found, slice(0, 20), points=store.Points.none()), found)
    overlay.put(event(found, slice(20, 60), points=some_points(found)), found)
    overlay.put(event(found, slice(60, len(found)), points=some_points(found)), found)
    (layer,) = viewer.layers
    assert len(layer.data) == 4
    assert layer.features["class"].tolist() == ["mitosis", "cell"] * 2
    overlay.finish(some_points(found), found, partial=True)
    assert len(layer.data) == 2
    np.testing.assert_allclose(layer.face_color[0, :3], (0xCC / 255, 0, 0x33 / 255))
    assert layer.name.endswith("(partial)")


def test_a_layer_that_was_removed_stays_away() -> None:
    viewer, found = ViewerModel(), detection_map()
    overlay = DenseOverlay(viewer)
    overlay.put(event(found, slice(0, 20), points=some_points(found)), found)
    viewer.layers.clear()
    overlay.put(event(found, slice(20, len(found)), points=some_points(found)), found)
    overlay.finish(some_points(found), found)
    assert not viewer.layers


def write_run(folder: Path, found: ScoreMap) -> None:
    folder.mkdir()
    found.save(folder / "slide.run.h5")
    if found.task == "dense":
        write_mask(folder / "slide.mask.ome.tiff", canvas_of(found), found)
    else:
        write_points_csv(folder / "slide.points.csv", some_points(found), found)


@pytest.mark.parametrize("make", [dense_map, detection_map])
def test_view_shows_what_lies_beside_the_score_map(
    make_napari_viewer: Any, noisy_image: Any, tmp_path: Path, make: Callable[..., ScoreMap]
) -> None:
    slide = write_slide(tmp_path / "slide.tiff", noisy_image[:700, :1000])
    with open_slide(slide) as opened:
        own = {RunH5.META_SLIDE_IDENTITY: opened.identity()}
    found = make(name="slide.tiff", run_meta=own)
    write_run(tmp_path / "run", found)
    viewer = open_view(slide, tmp_path / "run", show=False)
    try:
        (layer,) = [
            item for item in viewer.layers if item.name.startswith(("xT mask", "xT points"))
        ]
        if found.task == "dense":
            np.testing.assert_array_equal(layer.data, canvas_of(found))
        else:
            assert len(layer.data) == 2
        (classes,) = [item for item in viewer.layers if item.name.startswith("xT classes")]
        assert not classes.visible
    finally:
        viewer.close()


def test_results_and_masks_can_be_dropped_onto_napari(
    make_napari_viewer: Callable[[], Any], tmp_path: Path
) -> None:
    found = dense_map()
    write_run(tmp_path / "run", found)
    viewer = make_napari_viewer()
    viewer.open(str(tmp_path / "run" / "slide.run.h5"), plugin="napari-xt")
    (mask,) = [item for item in viewer.layers if item.name.startswith("xT mask")]
    viewer.layers.clear()
    (alone,) = viewer.open(str(tmp_path / "run" / "slide.mask.ome.tiff"), plugin="napari-xt")
    np.testing.assert_array_equal(alone.data, mask.data)
    np.testing.assert_allclose(alone.translate, mask.translate)


@pytest.mark.parametrize("task", ["dense", "detection"])
def test_a_run_ends_with_its_mask_or_points_over_the_tissue(
    qtbot: Any, panel: Any, square_slide: Path, make_model: Callable[..., Path], task: str
) -> None:
    panel._viewer.open(str(square_slide), plugin="napari-xt")
    panel.add_model_file(make_model("little", task=task))
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        panel.run()
    (finished,) = waited.args
    layer = panel.dense.layer
    assert layer in panel._viewer.layers
    assert not panel.overlay.classes.visible
    score_map = finished.score_map
    if task == "dense":
        values = np.asarray(layer.data[0] if layer.multiscale else layer.data)
        side = score_map.lattice.region_px // 4
        expected = np.zeros(values.shape, np.uint8)
        full = np.ones((len(score_map), side, side), np.uint8)
        MaskGrid(score_map.lattice).paste(expected, score_map.cells, full)
        np.testing.assert_array_equal(values > 0, expected > 0)
    else:
        assert len(layer.data) == len(finished.points) > 0
        assert f"{len(finished.points):,} points" in panel.status.text()
    panel.show_result(score_map)
    assert layer not in panel._viewer.layers


def test_cancelling_marks_what_is_shown_as_partial(
    qtbot: Any,
    panel: Any,
    make_model: Callable[..., Path],
    long_run: Callable[[], Any],
    brake: Brake,
) -> None:
    long_run()
    panel.add_model_file(make_model("slow", encoder="tf_efficientnet_lite0", task="dense"))
    brake.pull(RegionsDecoded)
    with qtbot.waitSignal(panel.session.decoded, timeout=PATIENCE_MS):
        panel.run()
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS):
        panel.cancel()
        brake.release()
    assert panel.dense.layer.name.endswith("(partial)")
    assert "in detail" in panel.status.text()
    assert "Partial" in panel.results.headline.text()
