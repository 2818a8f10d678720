"""Which files of a folder are slides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tifffile
from PIL import Image

from xt_backend.errors import InputNotFoundError
from xt_backend.slides import find_slides

from .slide_makers import texture, write_slide


def _names(folder: Path) -> tuple[list[str], dict[str, str]]:
    found = find_slides([folder])
    slides = [str(path.relative_to(folder)) for path in found.slides]
    return slides, {str(path.relative_to(folder)): why for path, why in found.passed_over}


def test_the_collection_of_real_slides(shared_data: Path) -> None:
    slides, passed_over = _names(shared_data)
    assert slides == sorted(slides, key=lambda name: Path(name).parts)
    layouts, vendor = "slides-layouts/", "slides-vendor/"
    assert [name for name in slides if name.startswith(layouts)] == [
        layouts + name
        for name in (
            "bcss_1008_dicom",
            "bcss_1015_crop_leica.scn",
            "bcss_1015_crop_mirax.mrxs",
            "bcss_1015_crop_philips.tiff",
            "bcss_1015_crop_subifd.ome.tiff",
            "bcss_1015_crop_trestle.tif",
            "bcss_1015_crop_ventana.bif",
            "bcss_1015_crop_vms/bcss_1015.vms",
        )
    ]
    # Broken slides get their row, whole images that are no slides do not.
    for name in ("broken.svs", "unopenable.tiff", "unreadable.svs"):
        assert f"{vendor}broken/{name}" in slides
    assert set(passed_over) == {
        f"{vendor}not-openslide/OS-1-detail.ome.tif",
        f"{vendor}not-openslide/OS-2-ndpi.ome.tif",
    }
    assert f"{vendor}dicom-boxes" in slides
    assert len(slides) == 24


def test_plain_images_are_passed_over_and_broken_ones_kept(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a plain.tif", texture(90, 80))
    Image.fromarray(texture(90, 80)).save(tmp_path / "b renamed.tiff", format="PNG")
    whole = (tmp_path / "a plain.tif").read_bytes()
    (tmp_path / "c cut.tif").write_bytes(whole[:-500])
    (tmp_path / "d empty.tif").touch()
    (tmp_path / "e text.TIFF").write_text("nothing")
    png = (tmp_path / "b renamed.tiff").read_bytes()
    (tmp_path / "f cut png.tif").write_bytes(png[: len(png) // 2])
    write_slide(tmp_path / "g slide.tif", [texture(90, 80)])
    (tmp_path / "h picture.png").write_bytes(png)
    slides, passed_over = _names(tmp_path)
    assert slides == ["c cut.tif", "d empty.tif", "e text.TIFF", "f cut png.tif", "g slide.tif"]
    assert set(passed_over) == {"a plain.tif", "b renamed.tiff"}
    assert "readable image" in passed_over["a plain.tif"]


def test_files_that_are_named_are_taken_as_they_are(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", texture(90, 80))
    (tmp_path / "notes.txt").write_text("x")
    found = find_slides([tmp_path / "notes.txt", tmp_path / "plain.tif", tmp_path])
    assert found.slides == (tmp_path / "notes.txt", tmp_path / "plain.tif")
    assert found.passed_over == ()
    with pytest.raises(InputNotFoundError, match="none"):
        find_slides([tmp_path / "none"])


def test_folders_links_hidden_files_and_repetitions(tmp_path: Path) -> None:
    for name in ("b/2.svs", "b/1.SVS", "a/deep/er/3.ndpi", ".hidden/4.svs", "b/.5.svs", "6.svs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("broken")
    (tmp_path / "a/deep/loop").symlink_to(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/link.svs").symlink_to(tmp_path / "6.svs")
    (tmp_path / "c/dangling.svs").symlink_to(tmp_path / "nowhere")
    slides, passed_over = _names(tmp_path)
    assert slides == [
        "6.svs",
        "a/deep/er/3.ndpi",
        "b/1.SVS",
        "b/2.svs",
        "c/dangling.svs",
        "c/link.svs",
    ]
    assert passed_over == {}
    again = find_slides([tmp_path / "b", tmp_path / "b/1.SVS", tmp_path])
    assert len(again.slides) == 6
    assert find_slides([]).slides == ()


def test_companions_are_not_slides_of_their_own(tmp_path: Path, shared_data: Path) -> None:
    layouts = shared_data / "slides-layouts"
    shutil.copytree(layouts / "bcss_1015_crop_mirax", tmp_path / "x")
    (tmp_path / "x").chmod(0o755)
    (tmp_path / "x.mrxs").touch()
    (tmp_path / "x/inner.svs").touch()
    (tmp_path / "y.vms").write_text("[Virtual Microscope Specimen]\nImageFile=y.tif\nNoLayers=1\n")
    tifffile.imwrite(tmp_path / "y.tif", texture(9, 8))
    assert _names(tmp_path) == (["x.mrxs", "y.vms"], {})


def test_dicom_folders(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "slides-layouts" / "bcss_1008_dicom"
    boxes = shared_data / "slides-vendor" / "dicom-boxes"

    def put(folder: str, *files: Path, suffix: str | None = None) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        for file in files:
            name = file.name if suffix is None else file.stem + suffix
            shutil.copyfile(file, tmp_path / folder / name)

    put("1 one series", *source.iterdir())
    put("2 two series", *source.iterdir(), *boxes.iterdir())
    put("3 with others", *boxes.iterdir())
    (tmp_path / "3 with others/a.svs").touch()
    put("4 bare names", *boxes.iterdir(), suffix="")
    (tmp_path / "4 bare names/notes").write_text("x")
    (tmp_path / "5 broken").mkdir()
    (tmp_path / "5 broken/a.dcm").touch()
    slides, _ = _names(tmp_path)
    assert slides == [
        "1 one series",
        "2 two series/boxes_0.dcm",
        "2 two series/label_384x448.dcm",
        "3 with others/a.svs",
        "3 with others/boxes_0.dcm",
        "4 bare names",
        "5 broken",
    ]


def test_folders_without_permission_are_reported(closed_folder: Path) -> None:
    (closed_folder / "closed").mkdir(mode=0)
    ((folder, reason),) = find_slides([closed_folder]).unlisted
    assert folder == closed_folder / "closed"
    assert "denied" in reason


def test_folders_that_cannot_be_listed_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    iterdir = Path.iterdir

    def failing(self: Path) -> object:
        if self.name == "gone":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", failing)
    found = find_slides([tmp_path])
    assert found.slides == found.passed_over == ()
    assert found.unlisted == ((tmp_path / "gone", "Permission denied"),)
