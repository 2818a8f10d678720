"""Images of other plugins: run as they are, refused with a reason, gone with their layer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from napari.layers._source import layer_source
from napari.utils.transforms import Affine
from qtpy.QtCore import Qt

from napari_xt.any_image import ImageBar
from napari_xt.any_image.source import ImageSource
from napari_xt.recent import recent_slides
from napari_xt.slide_layers import pyramid_of
from xt_backend import open_slide, score
from xt_backend.errors import UnsupportedSlideError
from xt_backend.store import ScoreMap

from .conftest import PATIENCE_MS, two_squares, write_slide


class Lazy:
    """What OME-Zarr readers give: no array, but a thing that gives parts of one."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.shape, self.dtype, self.ndim, self.size = data.shape, data.dtype, data.ndim, data.size
        self.most = 0

    def __getitem__(self, key: Any) -> Any:
        part = self._data[key]
        self.most = max(self.most, part.size)
        return part

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self._data, dtype)


@pytest.fixture
def picture() -> Any:
    image = np.full((2048, 3072, 3), 255, np.uint8)
    two_squares(image)
    return image


def use(qtbot: Any, panel: Any) -> Any:
    """Click the bar's button, and give the slide layer that comes of it."""
    (bar,) = panel.findChildren(ImageBar)
    before = set(panel._viewer.layers)
    qtbot.mouseClick(bar.use, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not bar.copying, timeout=PATIENCE_MS)
    (slide,) = set(panel._viewer.layers) - before
    return slide


def test_a_pyramid_of_another_plugin_gives_what_a_slide_gives(
    qtbot: Any,
    panel: Any,
    picture: Any,
    tmp_path: Path,
    make_model: Callable[..., Path],
) -> None:
    viewer = panel._viewer
    (bar,) = panel.findChildren(ImageBar)
    assert bar.isHidden()
    finest = Lazy(picture)
    # 0.5 um per pixel, told in mm and moved.
    foreign = viewer.add_image(
        [finest, picture[::2, ::2], picture[::4, ::4]],
        rgb=True,
        name="scan.ome.zarr",
        scale=(0.0005, 0.0005),
        translate=(0.1, 0.2),
        units=("mm", "mm"),
    )
    assert not bar.isHidden()
    assert "0.5 µm per pixel" in bar.note.text()
    slide = use(qtbot, panel)
    assert not foreign.visible
    assert finest.most < picture.size  # never as a whole
    info = pyramid_of(slide).info
    assert (info.width_px, info.height_px) == (3072, 2048)
    assert info.mpp.value == pytest.approx(0.5, rel=1e-5)
    with open_slide(pyramid_of(slide).path) as opened:
        np.testing.assert_array_equal(opened.read_level(0, 0, 0, 3072, 2048), picture)
    # Over the very place: the same pixel of both is at the same um.
    mm = np.array(foreign.data_to_world((700.0, 1300.0)))
    np.testing.assert_allclose(slide.data_to_world((700.0, 1300.0)), 1000 * mm, rtol=1e-4)
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        qtbot.mouseClick(panel.run_button, Qt.MouseButton.LeftButton)
    ours = waited.args[0].score_map
    # As a slide file with the same pixels is scored.
    file = write_slide(tmp_path / "same.tiff", picture)
    run = score([file], str(make_model()), tmp_path / "run", device="cpu")
    theirs = ScoreMap.load(tmp_path / "run" / f"{run.rows[0].id}.run.h5")
    np.testing.assert_array_equal(ours.cells, theirs.cells)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=1e-4)
    # The copy goes with its layer.
    path = pyramid_of(slide).path
    assert path.is_file()
    viewer.layers.remove(slide)
    assert not path.parent.exists()


def test_the_same_pixels_are_the_same_slide(qtbot: Any, panel: Any, picture: Any) -> None:
    """What was encoded of an image is found again when it is opened again."""
    viewer = panel._viewer
    identities = []
    for image in (picture, picture, picture[:, ::-1]):
        viewer.add_image(image, rgb=True, name="a.png", scale=(0.5, 0.5), units=("um", "um"))
        with open_slide(pyramid_of(use(qtbot, panel)).path) as opened:
            identities.append(opened.identity())
        viewer.layers.clear()
    assert identities[0] == identities[1] != identities[2]


def test_without_a_pixel_size_it_is_asked_for(qtbot: Any, panel: Any, picture: Any) -> None:
    viewer = panel._viewer
    clear = np.zeros((600, 700, 4), np.uint8)
    clear[100:400, 100:500] = (120, 40, 140, 255)
    viewer.add_image(clear, rgb=True, name="photo.png")
    (bar,) = panel.findChildren(ImageBar)
    assert "pixel size unknown" in bar.note.text()
    slide = use(qtbot, panel)
    assert pyramid_of(slide).info.mpp is None
    assert not panel.run_button.isEnabled()
    panel.form.mpp.setValue(0.5)
    assert panel.run_button.isEnabled()
    # What is transparent is glass.
    pixels = np.asarray(slide.data[0])
    assert (pixels[:100] == 255).all()
    assert (pixels[200, 200] == (120, 40, 140)).all()


def test_what_models_do_not_know_is_refused_with_a_reason(panel: Any) -> None:
    viewer = panel._viewer
    (bar,) = panel.findChildren(ImageBar)
    grey = viewer.add_image(np.zeros((64, 64), np.uint8), name="dapi")
    assert "dapi has one channel of brightness" in bar.note.text()
    assert "RGB" in bar.note.text()
    assert not bar.use.isEnabled()
    channels = viewer.add_image(np.zeros((3, 64, 64), np.uint16), name="stains")
    assert "several channels" in bar.note.text()
    deep = viewer.add_image(np.zeros((64, 64, 3), np.uint16), rgb=True, name="deep")
    assert "16 bits a colour" in bar.note.text()
    stack = viewer.add_image(np.zeros((5, 64, 64, 3), np.uint8), rgb=True, name="stack")
    flat = np.full((64, 64, 3), 250, np.uint8)
    mirrored = viewer.add_image(flat, rgb=True, name="mirrored", scale=(0.5, -0.5), units="um")
    assert "mirrored: its scale is negative" in bar.note.text()
    assert not bar.use.isEnabled()
    placed = viewer.add_image(flat, rgb=True, name="placed", affine=np.diag((2.0, 1.0, 1.0)))
    assert "placed by an affine" in bar.note.text()
    for layer in (grey, channels, deep, stack, mirrored, placed):
        with pytest.raises(UnsupportedSlideError):
            ImageSource.of(layer)
    viewer.layers.clear()
    assert bar.isHidden()


def test_a_turned_image_is_copied_to_its_place(qtbot: Any, panel: Any, picture: Any) -> None:
    recent = recent_slides()
    small = picture[:300, :400]
    turned = panel._viewer.add_image(
        small, rgb=True, name="t.png", scale=(0.5, 0.5), translate=(7, 9), rotate=30, units="um"
    )
    slide = use(qtbot, panel)
    for place in ((0, 0), (299, 0), (120, 399)):
        np.testing.assert_allclose(slide.data_to_world(place), turned.data_to_world(place))
    assert recent_slides() == recent, "a copy is no slide that could be opened again"


def test_what_a_killed_program_left_is_swept_and_what_is_used_is_not(
    qtbot: Any, panel: Any, picture: Any
) -> None:
    viewer = panel._viewer
    small = picture[:300, :400]
    viewer.add_image(small, rgb=True, name="a.png")
    first = pyramid_of(use(qtbot, panel)).path
    left = first.parent.parent / "left"
    left.mkdir()
    (left / "b.tiff").write_bytes(b"x")
    young = first.parent.parent / "young"
    young.mkdir()
    for folder in (first.parent, left):
        os.utime(folder, (1, 1))
    viewer.add_image(small, rgb=True, name="b.png")
    second = pyramid_of(use(qtbot, panel)).path
    assert first.is_file()
    assert second.is_file()
    assert young.is_dir()
    assert not left.exists()
    young.rmdir()


def test_a_copy_that_cannot_be_opened_is_told_and_removed(
    qtbot: Any, panel: Any, picture: Any
) -> None:
    viewer = panel._viewer
    (bar,) = panel.findChildren(ImageBar)
    viewer.add_image(picture[:300, :400], rgb=True, name="a.png")
    refused = UnsupportedSlideError("The disk has dropped it", "Plug it in")
    with (
        patch("napari_xt.reader.read_slide", side_effect=refused) as opened,
        patch("napari_xt.any_image.bar.show_error") as told,
    ):
        qtbot.mouseClick(bar.use, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: not bar.copying and told.called, timeout=PATIENCE_MS)
    assert "dropped it" in told.call_args[0][0]
    assert not opened.call_args[0][0].exists()
    assert bar.use.isEnabled()
    assert len(viewer.layers) == 1


def test_a_copy_that_is_stopped_or_fails_leaves_nothing(
    qtbot: Any, panel: Any, picture: Any
) -> None:
    from xt_backend.config import cache_folder

    viewer = panel._viewer
    (bar,) = panel.findChildren(ImageBar)
    folder = cache_folder().parent / "images"
    known = set(folder.iterdir()) if folder.exists() else set()

    begun, go_on = threading.Event(), threading.Event()

    class Slow(Lazy):
        def __getitem__(self, key: Any) -> Any:
            if bar.copying:
                begun.set()
                go_on.wait(60)
            return super().__getitem__(key)

    layer = viewer.add_image([Slow(picture), picture[::4, ::4]], rgb=True, name="slow")
    qtbot.mouseClick(bar.use, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(begun.is_set, timeout=PATIENCE_MS)
    qtbot.mouseClick(bar.cancel, Qt.MouseButton.LeftButton)
    go_on.set()
    qtbot.waitUntil(lambda: not bar.copying, timeout=PATIENCE_MS)
    assert set(folder.iterdir()) == known
    assert list(viewer.layers) == [layer]
    assert bar.use.isEnabled()

    class Broken(Lazy):
        def __getitem__(self, key: Any) -> Any:
            if bar.copying:
                raise OSError("the share is gone")
            return super().__getitem__(key)

    viewer.layers.clear()
    viewer.add_image([Broken(picture), picture[::4, ::4]], rgb=True, name="broken")
    with patch("napari_xt.any_image.bar.show_error") as told:
        qtbot.mouseClick(bar.use, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: not bar.copying, timeout=PATIENCE_MS)
    assert "the share is gone" in told.call_args[0][0]
    assert set(folder.iterdir()) == known


def as_channels(viewer: Any, picture: Any, path: str, colours: tuple[str, ...], lead: int) -> Any:
    """Three layers of one file, as OME-Zarr readers open a colour scan."""
    shown = []
    for index, colour in enumerate(colours):
        plane = picture[..., index][(None,) * lead]
        with layer_source(path=path, reader_plugin="another"):
            shown += [
                viewer.add_image(
                    [plane, plane[..., ::2, ::2]],
                    rgb=False,
                    multiscale=True,
                    name=f"channel {index}",
                    colormap=colour,
                    blending="additive",
                    scale=(1.0,) * lead + (0.5, 0.5),
                    units=("pixel",) * lead + ("um", "um"),
                    affine=Affine(translate=(0.0,) * lead + (40.0, 60.0)),
                )
            ]
    return shown


@pytest.mark.parametrize("lead", [0, 2])
def test_red_green_and_blue_of_one_file_are_one_image(
    qtbot: Any, panel: Any, picture: Any, lead: int
) -> None:
    viewer = panel._viewer
    picture[:300] = (10, 120, 240)
    layers = as_channels(viewer, picture, "/scans/one.ome.zarr", ("red", "green", "blue"), lead)
    (bar,) = panel.findChildren(ImageBar)
    assert "one.ome.zarr was opened by another plugin" in bar.note.text()
    viewer.layers.selection.active = layers[0]
    slide = use(qtbot, panel)
    assert not any(layer.visible for layer in layers)
    theirs = layers[0].data_to_world((0,) * lead + (700.0, 1300.0))[-2:]
    np.testing.assert_allclose(slide.data_to_world((700.0, 1300.0)), theirs, rtol=1e-4)
    with open_slide(pyramid_of(slide).path) as opened:
        assert opened.info.mpp is not None
        assert opened.info.mpp.value == pytest.approx(0.5, rel=1e-5)
        np.testing.assert_array_equal(opened.read_level(0, 0, 0, 3072, 2048), picture)


def test_layers_that_are_not_the_colours_of_one_file_are_refused(panel: Any, picture: Any) -> None:
    viewer = panel._viewer
    (bar,) = panel.findChildren(ImageBar)
    as_channels(viewer, picture, "/scans/two.ome.zarr", ("red", "red", "blue"), 0)
    assert "brightness" in bar.note.text()
    assert not bar.use.isEnabled()
    viewer.layers.clear()
    as_channels(viewer, picture, "/scans/a.ome.zarr", ("red", "green"), 0)
    as_channels(viewer, picture, "/scans/b.ome.zarr", ("blue",), 0)
    assert "brightness" in bar.note.text()
    viewer.layers.clear()
    stack = np.repeat(picture[None, :64, :64], 4, axis=0)
    for index, colour in enumerate(("red", "green", "blue")):
        with layer_source(path="/scans/z.ome.zarr"):
            viewer.add_image(stack[..., index], rgb=False, colormap=colour)
    assert "stack of 3 dimensions" in bar.note.text()


def test_a_scan_that_the_ome_zarr_plugin_opened(
    qtbot: Any, panel: Any, picture: Any, tmp_path: Path
) -> None:
    pytest.importorskip("napari_ome_zarr")
    import zarr

    path = tmp_path / "scan.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2)
    datasets: list[Any] = []
    for level in range(3):
        step = 2**level
        group.create_array(
            str(level),
            data=np.ascontiguousarray(np.moveaxis(picture[::step, ::step], 2, 0)),
            chunks=(1, 512, 512),
        )
        scale = {"type": "scale", "scale": [1.0, 0.5 * step, 0.5 * step]}
        datasets += [{"path": str(level), "coordinateTransformations": [scale]}]
    space = {"type": "space", "unit": "micrometer"}
    axes = [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    colours = (("R", "FF0000"), ("G", "00FF00"), ("B", "0000FF"))
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.attrs["omero"] = {
        "channels": [
            {"label": name, "color": color, "active": True, "window": window}
            for name, color in colours
        ]
    }
    panel._viewer.open(str(path), plugin="napari-ome-zarr")
    (bar,) = panel.findChildren(ImageBar)
    assert bar.use.isEnabled(), bar.note.text()
    slide = use(qtbot, panel)
    with open_slide(pyramid_of(slide).path) as opened:
        np.testing.assert_array_equal(opened.read_level(0, 0, 0, 3072, 2048), picture)
    assert pyramid_of(slide).info.mpp.value == pytest.approx(0.5, rel=1e-5)
    with qtbot.waitSignal(panel.session.finished, timeout=PATIENCE_MS) as waited:
        qtbot.mouseClick(panel.run_button, Qt.MouseButton.LeftButton)
    assert waited.args[0].score_map.scored.any()
