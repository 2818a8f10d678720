"""Opening slides, and what lies beside them in their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ImageCms
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

from napari_xt.recent import recent_slides, remember_slide
from napari_xt.slide_layers import pyramid_of
from xt_backend import open_slide, score
from xt_backend.keys import PRODUCT
from xt_backend.slides.extras import read_side_images, to_screen_colours

from .conftest import PATIENCE_MS, PINK, PURPLE, speckled, write_slide
from .test_run import open_slide_layer


def entry(panel: Any, text: str) -> Any:
    menu = panel.setup.slide_menu.menu
    menu.aboutToShow.emit()
    (found,) = [action for action in menu.actions() if action.text() == text]
    return found


def side_images(panel: Any) -> list[Any]:
    return [
        layer
        for layer in panel._viewer.layers
        if "side_image_of" in layer.metadata.get(PRODUCT, {})
    ]


def test_recent_slides_come_back_and_are_forgotten(
    panel: Any, square_slide: Path, tmp_path: Path
) -> None:
    entry(panel, "Open a slide …")
    open_slide_layer(panel, square_slide)
    assert recent_slides()[0] == square_slide
    panel._viewer.layers.clear()
    entry(panel, square_slide.name).trigger()
    assert [layer.name for layer in panel._viewer.layers] == [square_slide.name]
    copies = [shutil.copy(square_slide, tmp_path / f"copy{n}.tiff") for n in range(12)]
    for copy in copies:
        remember_slide(copy)
    copies[-1].unlink()
    assert recent_slides() == copies[-2:1:-1], "the last ten, but for the one that is gone"
    entry(panel, "Forget these").trigger()
    assert recent_slides() == []
    texts = [action.text() for action in panel.setup.slide_menu.menu.actions()]
    panel.setup.slide_menu.fill()
    texts = [action.text() for action in panel.setup.slide_menu.menu.actions()]
    assert "Forget these" not in texts


def test_a_slide_is_opened_by_the_dialog_and_a_bad_one_is_told_of(
    panel: Any, square_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_xt.slide_menu.show_error", told.append)
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    for path in (square_slide, bad):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, p=path: (str(p), ""))
        entry(panel, "Open a slide …").trigger()
    assert [layer.name for layer in panel._viewer.layers] == [square_slide.name]
    assert len(told) == 1
    assert "plain text" in told[0]


def test_a_folder_that_is_no_saved_run_is_told_of(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_xt.slide_menu.show_error", told.append)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    entry(panel, "Open a result …").trigger()
    (text,) = told
    assert text.startswith(f"{tmp_path.name} is no folder of a saved run. Choose the one that")
    assert not len(panel._viewer.layers)


def test_what_is_no_slide_is_told_of_with_a_way_out(
    panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is picked in a dialog: napari's own refusal names readers and a traceback."""
    told: list[str] = []
    monkeypatch.setattr("napari_xt.slide_menu.show_error", told.append)
    (tmp_path / "series" / "ct").mkdir(parents=True)
    (tmp_path / "series" / "notes.txt").write_text("no slide")
    picture = tmp_path / "picture.tif"
    tifffile.imwrite(picture, np.zeros((20, 30), np.uint16))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "series"))
    entry(panel, "Open a DICOM folder …").trigger()
    for path in (picture, tmp_path / "gone.tif"):
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, p=path: (str(p), ""))
        entry(panel, "Open a slide …").trigger()
    folder, flat, gone = told
    assert folder.startswith("series holds no slide. Choose the folder in which the DICOM files")
    assert flat.startswith("picture.tif is no slide.")
    assert "“Use this image as a slide”" in flat
    assert "gone.tif is not there any more" in gone
    assert not len(panel._viewer.layers)


def test_a_dicom_folder_and_a_saved_run_are_opened_by_their_dialogs(
    qtbot: Any,
    panel: Any,
    square_slide: Path,
    shared_data: Path,
    tmp_path: Path,
    make_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = iter([shared_data / "slides-layouts/bcss_1008_dicom", tmp_path / "run"])
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(next(folders)))
    entry(panel, "Open a DICOM folder …").trigger()
    assert [layer.name for layer in panel._viewer.layers] == ["bcss_1008_dicom"]
    panel._viewer.layers.clear()
    score([square_slide], str(make_model()), tmp_path / "run", device="cpu")
    entry(panel, "Open a result …").trigger()
    qtbot.waitUntil(
        lambda: panel.overlay is not None and panel.overlay.complete, timeout=PATIENCE_MS
    )
    assert panel.form.slide.currentText() == square_slide.name
    assert panel.chosen.complete


def test_label_and_macro_are_shown_only_after_a_yes(
    qtbot: Any, panel: Any, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = open_slide_layer(panel, shared_data / "slides-vendor/aperio/CMU-1-Small-Region.svs")
    assert len(panel._viewer.layers) == 1
    asked: list[str] = []

    def answer(button: Any) -> Any:
        return lambda *args: asked.append(args[-1]) or button

    show = "Show the label and macro images …"
    monkeypatch.setattr(QMessageBox, "question", answer(QMessageBox.StandardButton.No))
    entry(panel, show).trigger()
    assert side_images(panel) == []
    assert "patient's name" in asked[0]
    monkeypatch.setattr(QMessageBox, "question", answer(QMessageBox.StandardButton.Yes))
    entry(panel, show).trigger()
    entry(panel, show).trigger()
    names = [layer.name.split(" — ")[0] for layer in side_images(panel)]
    assert names == ["label", "macro", "thumbnail"], "once each"
    right = slide.extent.world[1][1]
    for layer in side_images(panel):
        assert layer.extent.world[0][1] > right, "beside the slide"
        assert layer.units == slide.units
    panel._viewer.layers.remove(slide)
    qtbot.waitUntil(lambda: len(panel._viewer.layers) == 0, timeout=PATIENCE_MS)


def test_side_images_go_with_their_own_slide(
    qtbot: Any, panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where two slides have one name, and where napari clears everything at once."""
    from napari.utils.notifications import notification_manager

    label = np.full((20, 30, 3), 200, np.uint8)
    monkeypatch.setattr(
        "xt_backend.slides.extras.read_side_images", lambda path: {"label": label, "macro": label}
    )
    slides = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = write_slide(tmp_path / folder / "s.tiff", speckled((1024, 1024), PINK))
        slides.append(open_slide_layer(panel, path))
        panel.setup.slide_menu.show_side_images()
    side_images(panel)[-1].name = "the user's own name"
    panel._viewer.layers.remove(slides[0])
    qtbot.waitUntil(lambda: len(side_images(panel)) == 2, timeout=PATIENCE_MS)
    assert slides[1] in panel._viewer.layers
    notification_manager.records.clear()
    panel._viewer.layers.clear()
    qtbot.waitUntil(lambda: not panel.setup.slide_menu._turns.waiting, timeout=PATIENCE_MS)
    assert not len(panel._viewer.layers)
    assert not notification_manager.records


def swapped_profile() -> bytes:
    """An ICC profile like sRGB, but with the primaries red and blue in each other's place."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    for start in range(132, 132 + 12 * count, 12):
        tag = bytes(profile[start : start + 4])
        profile[start : start + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(tag, tag)
    return bytes(profile)


def test_icc_colours_are_for_the_eyes_only(
    panel: Any, square_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, image = tmp_path / "icc.tiff", speckled((1024, 1024), PINK)
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", iccprofile=swapped_profile())
    slide = open_slide_layer(panel, path)
    pyramid_of(slide).patience_s = None  # no tile is late

    def shown() -> Any:
        return np.asarray(slide.data[0][:]).astype(int)

    np.testing.assert_array_equal(shown(), image)
    switch = "Colours as the scanner's profile says"
    entry(panel, switch).trigger()
    assert entry(panel, switch).isChecked()
    assert np.abs(shown() - image[..., ::-1]).mean() < 3, "red and blue have changed places"
    with open_slide(path) as file:
        np.testing.assert_array_equal(file.read_level(0, 0, 0, 1024, 1024), image)
    entry(panel, switch).trigger()
    assert not entry(panel, switch).isChecked()
    np.testing.assert_array_equal(shown(), image)

    told: list[str] = []
    monkeypatch.setattr("napari_xt.slide_menu.show_info", told.append)
    open_slide_layer(panel, square_slide)
    entry(panel, switch).trigger()
    assert "no colour profile" in told[0]
    assert not entry(panel, switch).isChecked()


def test_real_profiles_are_used(shared_data: Path) -> None:
    for name in (
        "slides-vendor/aperio/TCGA-CR-7395-01A-01-TS1.svs",
        "slides-layouts/bcss_1008_dicom",
    ):
        colours = to_screen_colours(shared_data / name)
        assert colours is not None
        assert colours(np.full((4, 5, 3), 128, np.uint8)).shape == (4, 5, 3)


def test_two_slides_lie_side_by_side(qtbot: Any, make_napari_viewer: Any, tmp_path: Path) -> None:
    viewer = make_napari_viewer(show=True)
    for name, color in (("a", PINK), ("b", PURPLE)):
        path = write_slide(tmp_path / f"{name}.tiff", speckled((512, 512), color))
        viewer.open(str(path), plugin=PRODUCT)
    # Before napari 0.9 the viewer holds the grid.
    getattr(viewer, "canvas", viewer).grid.enabled = True
    qtbot.wait(500)
    viewer.reset_view()

    def both_shown() -> bool:
        picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        height, width = picture.shape[:2]
        middles = [picture[height // 2 - 20 :][:40, width * n // 4 - 20 :][:, :40] for n in (1, 3)]
        seen = [np.median(middle, axis=(0, 1)) for middle in middles]
        first, second = (
            [float(np.abs(color - one).max()) < 25 for one in (PINK, PURPLE)] for color in seen
        )
        return sorted([first, second]) == [[False, True], [True, False]]

    qtbot.waitUntil(both_shown, timeout=60_000)
    assert both_shown()


def test_side_images_of_slides_without_any(tissue_slide: Path) -> None:
    assert read_side_images(tissue_slide) == {}
    assert to_screen_colours(tissue_slide) is None


def test_a_dropped_slide_is_opened_without_asking_which_plugin(
    panel: Any, shared_data: Path
) -> None:
    from napari.settings import get_settings

    path = shared_data / "slides-vendor/aperio/CMU-1-Small-Region.svs"
    panel._viewer.window._qt_viewer._qt_open([str(path)], stack=False)
    assert [layer.name for layer in panel._viewer.layers] == [path.name]
    assert pyramid_of(panel._viewer.layers[0]) is not None
    chosen = get_settings().plugins.extension2reader
    assert chosen["*.svs"] == PRODUCT
    assert "*.tif" not in chosen


def drop(panel: Any, *paths: Path) -> None:
    """Drop files on what napari shows, as a file manager does."""
    view = panel._viewer.window._qt_viewer
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    (target, *_) = [one for one in (view, *view.findChildren(QWidget)) if one.acceptDrops()]
    how = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    # Without having entered, Qt drops nothing.
    entered = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, mime, *how)
    QApplication.sendEvent(target, entered)
    assert entered.isAccepted()
    dropped = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, *how)
    QApplication.sendEvent(target, dropped)


def test_a_dropped_tiff_that_is_a_slide_opens_and_a_picture_is_left_to_napari(
    panel: Any, tissue_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = panel._viewer.window._qt_viewer
    left: list[list[str]] = []
    monkeypatch.setattr(type(view), "_qt_open", lambda _, names, **options: left.append(names))
    slide = tmp_path / "slide.tif"
    slide.write_bytes(tissue_slide.read_bytes())
    drop(panel, slide)
    assert [layer.name for layer in panel._viewer.layers] == ["slide.tif"]
    assert pyramid_of(panel._viewer.layers[0]) is not None
    assert panel.setup.slide_layer is panel._viewer.layers[0]
    assert left == []

    picture = tmp_path / "picture.tif"
    tifffile.imwrite(picture, np.zeros((20, 30), np.uint16))
    drop(panel, picture)
    drop(panel, slide, picture)
    assert left == [[str(picture)], [str(slide), str(picture)]]
    assert len(panel._viewer.layers) == 1

    # Whoever chose another plugin for such names keeps it.
    from napari.settings import get_settings

    plugins = get_settings().plugins
    plugins.extension2reader = {**plugins.extension2reader, "*.tif": "napari"}
    drop(panel, slide)
    assert left[2:] == [[str(slide)]]


def test_the_users_own_choice_of_plugin_stays() -> None:
    from napari.settings import get_settings

    from napari_xt.preference import open_slides_here

    plugins = get_settings().plugins
    plugins.extension2reader = {"*.svs": "another"}
    open_slides_here()
    assert plugins.extension2reader["*.svs"] == "another"
    assert plugins.extension2reader["*.ndpi"] == PRODUCT
