"""The tissue as a layer: found, painted over, and used as it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QPoint, Qt

import xt_backend
from napari_xt.tissue_files import tissue_geojson
from xt_backend.keys import RegionStatus
from xt_backend.slides import open_slide, read_shapes, tissue_from_shapes

from .conftest import PATIENCE_MS, PINK, speckled, write_slide
from .test_run import button, click, open_slide_layer, run_to_end


def outline(qtbot: Any, panel: Any) -> Labels:
    click(qtbot, panel, "Show")
    qtbot.waitUntil(lambda: panel.form.sensitivity.isEnabled(), timeout=PATIENCE_MS)
    (layer,) = [item for item in panel._viewer.layers if item.name.startswith("Tissue — ")]
    return layer


def world_px(layer: Labels, mpp: float) -> np.ndarray[Any, Any]:
    """Level-0 px y0, x0, y1, x1 around what is labelled, by where the layer shows it."""
    rows, columns = np.nonzero(layer.data)
    low = layer.data_to_world((rows.min() - 0.5, columns.min() - 0.5))
    high = layer.data_to_world((rows.max() + 0.5, columns.max() + 0.5))
    return np.array([*low, *high]) / mpp + 0.5


def test_the_outline_lies_on_the_tissue_and_the_run_uses_it(
    qtbot: Any, panel: Any, square_slide: Path, tmp_path: Path
) -> None:
    open_slide_layer(panel, square_slide)
    assert not panel.form.sensitivity.isEnabled()
    layer = outline(qtbot, panel)
    np.testing.assert_allclose(world_px(layer, 0.5), (512, 1024, 1024, 2048), atol=13)
    assert layer.mode == "paint"
    # The right half is rubbed out, and a piece of glass is taken in.
    layer.mode = "erase"
    y0 = int(np.argwhere(layer.data)[:, 0].min())
    middle = int(np.argwhere(layer.data)[:, 1].mean())
    layer.brush_size = 8
    for row in range(y0 - 20, y0 + 220, 4):
        for column in range(middle + 4, middle + 220, 4):
            layer.paint((row, column), 0)
    layer.paint((300, 100), 1)
    spec = panel.setup.spec()
    assert spec.tissue.endswith(".geojson")
    event = run_to_end(qtbot, panel)
    boxes = event.score_map.lattice.boxes(event.score_map.cells)
    on_glass = boxes[:, 0] < 512
    assert 1 <= on_glass.sum() <= 9, "64 px regions around the dot"
    assert boxes[~on_glass, 2].max() <= 1600, "nothing of the right half"
    assert boxes[~on_glass, 0].min() >= 1024 - 64
    # The command line makes the same of the same file.
    run = xt_backend.score(
        square_slide, spec.model, tmp_path / "run", tissue=spec.tissue, cache=tmp_path / "cache"
    )
    table = run.regions
    np.testing.assert_array_equal(table[["minx", "miny"]].to_numpy(), boxes[:, :2])
    np.testing.assert_array_equal(
        table[["prob_stroma", "prob_tumour"]].to_numpy(np.float32), event.score_map.probabilities
    )


def test_the_slider_finds_more_and_keeps_what_was_painted(
    qtbot: Any, panel: Any, tmp_path: Path
) -> None:
    image = np.full((2048, 2048, 3), 245, np.uint8)
    image[256:768, 256:768] = speckled((512, 512), PINK)
    pale = np.random.default_rng(3).integers(-6, 7, (512, 512, 1))
    image[1024:1536, 1024:1536] = np.clip(np.array((236, 228, 234)) + pale, 0, 255)
    open_slide_layer(panel, write_slide(tmp_path / "pale.tiff", image))
    layer = outline(qtbot, panel)
    layer.brush_size = 10
    layer.paint((900, 900), 1)  # on glass
    layer.paint((250, 250), 0)  # inside the tissue
    sizes = {}
    for value in (0, 50, 100):
        before = layer.data
        panel.form.sensitivity.setValue(value)
        if value != 50:
            qtbot.waitUntil(lambda before=before: layer.data is not before, timeout=PATIENCE_MS)
        sizes[value] = int((np.asarray(layer.data) != 0).sum())
        assert layer.data[900, 900] == 1
        assert layer.data[250, 250] == 0
    assert sizes[0] <= sizes[100]
    assert layer.data[640, 640] == 1, "the pale part is found"


def test_a_deleted_layer_leaves_it_to_the_program(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    open_slide_layer(panel, square_slide)
    layer = outline(qtbot, panel)
    assert button(panel, "Paint").isEnabled()
    layer.data = np.zeros_like(layer.data)
    with pytest.raises(Exception, match="There is no tissue to score"):
        panel.setup.spec()
    panel._viewer.layers.remove(layer)
    assert panel.setup.spec().tissue == "auto"
    assert not panel.form.sensitivity.isEnabled()
    assert button(panel, "Show").isEnabled()


def test_painted_tissue_leaves_and_comes_back_with_its_slide(
    qtbot: Any, panel: Any, square_slide: Path
) -> None:
    viewer = panel._viewer
    slide = open_slide_layer(panel, square_slide)
    layer = outline(qtbot, panel)
    layer.paint((300, 100), 1)
    painted = layer.data.copy()
    tissue = panel.setup.spec().tissue
    viewer.layers.remove(slide)
    qtbot.waitUntil(lambda: not len(viewer.layers), timeout=PATIENCE_MS)
    open_slide_layer(panel, square_slide)
    qtbot.waitUntil(lambda: layer in viewer.layers, timeout=PATIENCE_MS)
    np.testing.assert_array_equal(layer.data, painted)
    assert panel.setup.spec().tissue == tissue
    assert button(panel, "Paint").isEnabled()
    # The slider still works on it, and knows what was painted.
    panel.form.sensitivity.setValue(90)
    qtbot.waitUntil(lambda: not panel.setup.tissue._cut.working, timeout=PATIENCE_MS)
    assert layer.data[300, 100] == 1


def test_only_what_runs_used_is_kept_as_files(
    qtbot: Any, panel: Any, square_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    monkeypatch.setattr("napari_xt.tissue_files._kept_folder", lambda: kept)
    monkeypatch.setattr("napari_xt.tissue_files._MOST_KEPT", 2)
    open_slide_layer(panel, square_slide)
    layer = outline(qtbot, panel)
    before: list[str] = []
    used: set[str] = set()
    for row in (100, 150, 200):
        layer.paint((row, 100), 1)
        look = panel.setup._plan._regions_look
        qtbot.waitUntil(lambda look=look: look.working, timeout=PATIENCE_MS)
        qtbot.waitUntil(lambda look=look: not look.working, timeout=PATIENCE_MS)
        assert "regions" in panel.plan.text()
        assert set(map(str, kept.glob("*"))) == used, "looking ahead keeps nothing"
        run_to_end(qtbot, panel)
        before.append(panel.chosen.spec.tissue)
        used = set(before[-2:])
        assert set(map(str, kept.glob("*"))) == used
    passing = panel.setup.tissue._files._passing
    assert len(list(passing.iterdir())) == 1


def test_bounds_are_subtracted_and_added_again(tmp_path: Path) -> None:
    image = np.full((2048, 2048, 3), 245, np.uint8)
    image[768:1536, 1024:1792] = speckled((768, 768), PINK)
    path = write_slide(tmp_path / "b.tiff", image, without_tile=lambda y0, x0: x0 < 512 or y0 < 256)
    with open_slide(path) as slide:
        info, thumbnail = slide.info, slide.thumbnail(1024)
    assert info.bounds_px[:2] == (512, 256)
    mask = np.zeros(thumbnail.valid.shape, bool)
    mask[400:700, 600:800] = True
    mask[500:520, 650:700] = False
    file = tmp_path / "t.geojson"
    file.write_bytes(tissue_geojson(mask, thumbnail, info))
    (feature,) = json.loads(file.read_bytes())["features"]
    assert feature["properties"]["classification"]["name"] == "Tissue"
    shapes = read_shapes(file, offset_px=info.bounds_px[:2])
    tissue = tissue_from_shapes(shapes, info.width_px, info.height_px)
    step = tissue.mask.shape[0] // mask.shape[0]
    middle = tissue.mask[step // 2 :: step, step // 2 :: step]
    assert (middle != mask).mean() < 1e-4, "but for a row along a border"


def test_the_box_leaves_out_doubtful_regions(qtbot: Any, panel: Any, tmp_path: Path) -> None:
    image = np.full((2048, 3072, 3), 245, np.uint8)
    image[512:1024, 1024:2048] = speckled((512, 1024), PINK, 11)
    pen = np.s_[640:768, 1280:1536]
    image[pen] = (image[pen] * np.array((0.1, 0.5, 0.3))).astype(np.uint8)
    open_slide_layer(panel, write_slide(tmp_path / "pen.tiff", image))
    panel.form.area.setCurrentIndex(1)  # ink is no tissue
    score_map = run_to_end(qtbot, panel).score_map
    assert "doubtful" in panel.status.text()
    (doubts,) = [item for item in panel._viewer.layers if item.name.startswith("xT doubtful")]
    flagged = np.argwhere(doubts.data == 3)
    np.testing.assert_array_equal([flagged.min(axis=0), flagged.max(axis=0)], [[10, 20], [11, 23]])
    assert not doubts.visible
    assert score_map.scored.all()
    box = panel.form.exclude
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    assert panel.form.exclude.isChecked()
    score_map = run_to_end(qtbot, panel).score_map
    assert (score_map.status == RegionStatus.EXCLUDED).sum() >= 8
    (status,) = [item for item in panel._viewer.layers if item.name.startswith("xT status")]
    assert status.visible or (status.data == 5).sum() >= 8
    assert (status.data[10:12, 20:24] == 5).all()
