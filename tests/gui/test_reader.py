"""The reader: takes slides, declines pictures, and gives layers in um without secrets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from napari_xt.reader import get_reader, read_slide
from napari_xt.slide_layers import pyramid_of
from xt_backend.errors import SlideOpenError

from .conftest import write_slide

SLIDES = [
    "bcss-roi/slides/bcss_1008.svs",
    "slides-layouts/bcss_1008_dicom",
    "slides-layouts/bcss_1015_crop_leica.scn",
    "slides-layouts/bcss_1015_crop_mirax.mrxs",
    "slides-layouts/bcss_1015_crop_philips.tiff",
    "slides-layouts/bcss_1015_crop_subifd.ome.tiff",
    "slides-layouts/bcss_1015_crop_trestle.tif",
    "slides-layouts/bcss_1015_crop_ventana.bif",
    "slides-layouts/bcss_1015_crop_vms/bcss_1015.vms",
    "slides-vendor/dicom-sm/sm_image.dcm",
    "slides-vendor/hamamatsu/test3-DAPI-2-(387).ndpi",
]

NOT_SLIDES = [
    "slides-layouts/bcss_1015_crop_vms/bcss_1015.jpg",
    "slides-vendor/not-openslide/OS-1-detail.ome.tif",
    "slides-vendor/not-openslide/OS-2-ndpi.ome.tif",
    "bcss-roi/images/1008.jpg",
    "bcss-roi/masks/1008.png",
    "bcss-roi/masks",
    "bcss-roi",
]


@pytest.mark.parametrize("name", SLIDES)
def test_slides_are_read(shared_data: Path, name: str) -> None:
    path = str(shared_data / name)
    read = get_reader(path)
    assert read is not None
    ((levels, options, kind),) = read(path)
    assert kind == "image"
    info = levels[0].pyramid.info
    assert levels[0].shape == (info.height_px, info.width_px, 3)
    if info.mpp is not None:
        assert options["scale"] == (info.mpp.y, info.mpp.x)
        assert set(options["units"]) == {"micrometer"}
    assert "translate" not in options
    levels[0].pyramid.close()


@pytest.mark.parametrize("name", NOT_SLIDES)
def test_pictures_and_folders_are_declined(shared_data: Path, name: str) -> None:
    assert get_reader(str(shared_data / name)) is None


def test_made_up_pictures_are_declined(tmp_path: Path) -> None:
    pixels = np.zeros((64, 80, 3), np.uint8)
    for end in ("png", "jpg", "bmp", "tif"):
        Picture.fromarray(pixels).save(tmp_path / f"plain.{end}")
    tifffile.imwrite(tmp_path / "plain.ome.tif", pixels)
    (tmp_path / "letter.tiff").write_text("not an image")
    for path in tmp_path.iterdir():
        assert get_reader(str(path)) is None, path.name
    assert get_reader(str(tmp_path / "gone.tif")) is None
    assert get_reader([str(tmp_path / "plain.png"), str(tmp_path / "plain.jpg")]) is None


def test_dicom_without_suffix_is_read_as_the_engine_reads_it(
    shared_data: Path, tmp_path: Path
) -> None:
    from xt_backend.slides import open_slide

    for file in (shared_data / "slides-layouts" / "bcss_1008_dicom").glob("*.dcm"):
        shutil.copy(file, tmp_path / file.stem.replace(".", "_"))
    (tmp_path / "README").write_text("before all others, and no image")
    read = get_reader(str(tmp_path))
    assert read is not None
    ((levels, _, _),) = read(str(tmp_path))
    with open_slide(tmp_path) as slide:
        assert levels[0].pyramid.info == slide.info
    levels[0].pyramid.close()


def test_a_folder_that_may_not_be_listed_is_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert get_reader(str(tmp_path)) is None


def test_napari_goes_on_to_its_own_reader_for_pictures(
    make_napari_viewer: Callable[[], Any], tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    Picture.fromarray(np.zeros((64, 80, 3), np.uint8)).save(tmp_path / "plain.tif")
    (layer,) = viewer.open(str(tmp_path / "plain.tif"))
    assert layer.data.shape == (64, 80, 3)
    assert pyramid_of(layer) is None


def test_a_broken_slide_file_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "letter.svs"
    path.write_text("not a slide")
    read = get_reader(str(path))
    assert read is not None
    with pytest.raises(SlideOpenError):
        read(str(path))


def test_names_with_blanks_and_letters_of_all_kinds(tmp_path: Path, noisy_image: Any) -> None:
    path = write_slide(tmp_path / "Schnitt – 切片 (1) ☃.tiff", noisy_image)
    read = get_reader(str(path))
    assert read is not None
    assert read(str(path))[0][1]["name"] == path.name


def test_nothing_private_hangs_on_the_layer(tmp_path: Path, noisy_image: Any) -> None:
    folder = tmp_path / "DOE^JOHN"
    folder.mkdir()
    plain = write_slide(tmp_path / "case.tiff", noisy_image)
    with tifffile.TiffFile(plain, mode="r+b") as file:
        file.pages[0].tags["Software"].overwrite("DOE^JOHN born 1950")
    path = Path(shutil.copy(plain, folder / "case.tiff"))
    ((_, options, _),) = read_slide(path)
    text = json.dumps(options["metadata"])
    assert "DOE" not in text
    assert str(tmp_path) not in text
    assert "DOE" not in options["name"]


def test_no_pixel_size_is_told_and_the_layer_is_in_px(tmp_path: Path, noisy_image: Any) -> None:
    from napari.utils.notifications import notification_manager

    notification_manager.records.clear()
    ((_, options, _),) = read_slide(write_slide(tmp_path / "no.tiff", noisy_image, None))
    (notice,) = notification_manager.records
    assert "pixel size" in notice.message
    assert "no.tiff" in notice.message
    assert str(tmp_path) not in notice.message
    assert "scale" not in options
    assert "unknown" in options["name"]


def test_the_file_is_let_go_with_its_last_layer(
    make_napari_viewer: Callable[[], Any], tmp_path: Path, noisy_image: Any
) -> None:
    viewer = make_napari_viewer()
    path = str(write_slide(tmp_path / "s.tiff", noisy_image))
    (layer,) = viewer.open(path, plugin="napari-xt")
    pyramid = pyramid_of(layer)
    assert pyramid is not None
    twin = viewer.add_image(layer.data_raw, multiscale=True, rgb=True, name="twin")
    viewer.layers.remove(layer)
    assert pyramid.is_open
    viewer.layers.remove(twin)
    assert not pyramid.is_open


@pytest.mark.parametrize("first", ["slide", "dock"])
def test_a_first_slide_with_bounds_fills_the_view(
    make_napari_viewer: Callable[[], Any], shared_data: Path, first: str
) -> None:
    viewer = make_napari_viewer()
    if first == "dock":
        viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    path = shared_data / "slides-layouts" / "bcss_1015_crop_leica.scn"
    (layer,) = viewer.open(str(path), plugin="napari-xt")
    x_px, y_px, width_px, height_px = pyramid_of(layer).info.bounds_px
    middle = ((y_px + height_px / 2) * 0.25, (x_px + width_px / 2) * 0.25)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], middle, atol=1)
    zoomed = viewer.scene.camera.zoom
    viewer.reset_view()
    np.testing.assert_allclose(zoomed / viewer.scene.camera.zoom, 10048 / 2048, rtol=0.01)


def test_the_scale_bar_comes_with_the_first_slide_in_um_and_is_the_users_then(
    make_napari_viewer: Callable[[], Any], tmp_path: Path, noisy_image: Any
) -> None:
    viewer = make_napari_viewer()
    viewer.window.add_plugin_dock_widget("napari-xt", "Run xT")
    bar = viewer.canvas.overlays.scale_bar
    viewer.add_image(noisy_image[..., 0])
    viewer.open(str(write_slide(tmp_path / "px.tiff", noisy_image, None)), plugin="napari-xt")
    assert not bar.visible
    viewer.open(str(write_slide(tmp_path / "um.tiff", noisy_image)), plugin="napari-xt")
    assert bar.visible
    bar.visible = False
    viewer.open(str(write_slide(tmp_path / "more.tiff", noisy_image)), plugin="napari-xt")
    assert not bar.visible


def test_label_and_macro_pictures_are_never_shown(shared_data: Path) -> None:
    layers = read_slide(shared_data / "bcss-roi" / "slides" / "bcss_1008.svs")
    assert len(layers) == 1
