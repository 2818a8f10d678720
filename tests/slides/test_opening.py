"""What cannot be opened says why, each cause in its own words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from xt_backend.errors import SlideMppError, SlideOpenError
from xt_backend.slides import open_slide

from .slide_makers import texture, write_slide


def _cause(path: Path) -> str:
    with pytest.raises(SlideOpenError) as caught:
        open_slide(path)
    error = caught.value
    assert error.way_out, "no way out"
    assert not error.cause.endswith(".")
    # Reasons go into tables, those of pseudonymised runs too.
    assert path.stem not in str(error)
    assert str(path.parent) not in str(error)
    return error.cause


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return write_slide(tmp_path / "whole.tiff", [texture(400, 300)]).read_bytes()


def test_every_cause_has_its_own_message(tmp_path: Path, whole: bytes) -> None:
    def file(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    (tmp_path / "empty folder q").mkdir()
    (tmp_path / "dangling q").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe q")
    causes = {
        "missing": _cause(tmp_path / "missing q.svs"),
        "link": _cause(tmp_path / "dangling q"),
        "pipe": _cause(tmp_path / "pipe q"),
        "folder": _cause(tmp_path / "empty folder q"),
        "empty": _cause(file("empty q.svs", b"")),
        "text": _cause(file("text q.svs", b"Dear colleague,\nthe slide follows.\n")),
        "umlaut": _cause(file("umlaut q.svs", "Größe ändern ".encode() * 700)),
        "zeros": _cause(file("zeros q.svs", bytes(9000))),
        "png": _cause(file("png q.svs", b"\x89PNG\r\n\x1a\n" + bytes(50))),
        "zip": _cause(file("zip q.svs", b"PK\x03\x04" + bytes(50))),
        "cut": _cause(file("cut q.svs", whole[: len(whole) // 2])),
        "header only": _cause(file("header q.svs", whole[:8])),
        "no folder": _cause(file("mirax q.mrxs", b"\xff\xd8\xff\xe0" + bytes(50))),
        "dicom": _cause(file("ct q.dcm", bytes(128) + b"DICM" + bytes(50))),
        "czi": _cause(file("zeiss q.czi", b"ZISRAWFILE" + bytes(50))),
        "unknown": _cause(file("unknown q.svs", b"\x01\x02\x03\x00" * 50)),
    }
    words = {
        "missing": "does not exist",
        "link": "link leads nowhere",
        "pipe": "device or pipe",
        "folder": "without DICOM",
        "empty": "0 bytes",
        "text": "plain text",
        "umlaut": "plain text",
        "zeros": "zeros",
        "png": "PNG",
        "zip": "ZIP",
        "cut": "cut off",
        "header only": "cut off",
        "no folder": "folder of the same name",
        "dicom": "DICOM",
        "czi": "cannot open it: Couldn't read file header",
        "unknown": "not recognise",
    }
    for case, word in words.items():
        assert word in causes[case], case
    assert len(set(causes.values())) >= len(causes) - 2


def test_paths_that_no_system_takes(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 300 + ".svs"), tmp_path / "nul\0.svs"):
        with pytest.raises(SlideOpenError, match="path cannot be used"):
            open_slide(path)


def test_no_permission(whole: bytes, closed_folder: Path) -> None:
    path = closed_folder / "secret q.svs"
    path.write_bytes(whole)
    path.chmod(0)
    assert "may not be read" in _cause(path)


def test_plain_tiff(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "scan q.tif"
    tifffile.imwrite(path, texture(64, 48))
    assert "without tiles" in _cause(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_slide_is_refused_wherever_its_directories_are(
    tmp_path: Path, shared_data: Path, share: float
) -> None:
    sources = ["bcss-roi/slides/bcss_1008.svs", "her2st-slides/her2st_C3.tiff"]
    sources += [f"slides-layouts/bcss_1015_crop_{x}" for x in ("leica.scn", "philips.tiff")]
    for source in sources:
        content = (shared_data / source).read_bytes()
        path = tmp_path / f"cut q{Path(source).suffix}"
        path.write_bytes(content[: int(len(content) * share)])
        assert "cut off" in _cause(path), source


def test_known_format_that_does_not_open(shared_data: Path) -> None:
    vendor = shared_data / "slides-vendor"
    assert "compression (52479)" in _cause(vendor / "broken" / "unopenable.tiff")
    assert "plain text" in _cause(vendor / "broken" / "broken.svs")
    for name in ("OS-1-detail.ome.tif", "OS-2-ndpi.ome.tif"):
        assert "TIFF of a kind" in _cause(vendor / "not-openslide" / name)


def test_mirax_without_its_parts(tmp_path: Path, shared_data: Path) -> None:
    layouts = shared_data / "slides-layouts"
    path = tmp_path / "case q.mrxs"
    shutil.copy(layouts / "bcss_1015_crop_mirax.mrxs", path)
    assert "folder of the same name" in _cause(path)
    folder = tmp_path / "case q"
    folder.mkdir()
    assert "Slidedat.ini" in _cause(path)
    shutil.copytree(layouts / "bcss_1015_crop_mirax", folder, dirs_exist_ok=True)
    with open_slide(path) as slide:
        assert slide.info.width_px == 2048
    data = (folder / "Data0000.dat").read_bytes()
    (folder / "Data0000.dat").write_bytes(data[:1000])
    assert "is damaged: " in _cause(path)
    assert "Data0000.dat" in _cause(path)
    (folder / "Data0000.dat").unlink()
    assert _cause(path) == "the folder of this MIRAX slide lacks Data0000.dat"
    (folder / "Index.dat").unlink()
    assert "lacks 2 of the 2 files that it should hold (Index.dat, Data0000.dat)" in _cause(path)


def test_vms_without_its_images(tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "case q.vms"
    shutil.copy(shared_data / "slides-layouts/bcss_1015_crop_vms/bcss_1015.vms", path)
    assert "3 of the 3 files" in _cause(path)


def test_dicom_folder(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "slides-layouts" / "bcss_1008_dicom"
    with open_slide(source) as whole, open_slide(source / "volume_224x160.dcm") as single:
        assert whole.info.name == "bcss_1008_dicom"
        assert single.info.name == "volume_224x160.dcm"
        assert whole.info.level_dimensions == single.info.level_dimensions
        assert whole.identity() == single.identity()

    folder = tmp_path / "no suffixes"
    folder.mkdir()
    for number, file in enumerate(sorted(source.iterdir())):
        shutil.copy(file, folder / f"IM{number:04d}")
    # The first one is spoilt: the next that opens is taken.
    (folder / "IM0000").write_bytes(bytes(128) + b"DICM" + bytes(9))
    (folder / "readme").write_text("x")
    with pytest.raises(SlideOpenError, match="2 different series"):
        open_slide(folder)
    (folder / "IM0000").unlink()
    with open_slide(folder) as slide:
        assert slide.info.level_dimensions == ((3584, 2560), (896, 640), (224, 160))

    broken = tmp_path / "broken q"
    broken.mkdir()
    for name in ("a.dcm", "b.dcm"):
        (broken / name).write_bytes(bytes(128) + b"DICM" + bytes(9))
    assert "none of the 2 DICOM files" in _cause(broken)
    shutil.copy(shared_data / "slides-vendor/dicom-sm/sm_image.dcm", broken)
    shutil.copy(shared_data / "slides-vendor/dicom-boxes/boxes_0.dcm", broken)
    assert "different series" in _cause(broken)


def test_slide_mpp_is_checked_before_the_file(tmp_path: Path) -> None:
    with pytest.raises(SlideMppError, match="--slide-mpp"):
        open_slide(tmp_path / "missing.svs", slide_mpp=7)


def test_unusual_names_open(tmp_path: Path, whole: bytes) -> None:
    for name in ("-rf.tiff", "a b\nc.tiff", "größe 🔬.tiff", "x" * 250 + ".tif", "dot..tiff"):
        path = tmp_path / name
        path.write_bytes(whole)
        with open_slide(path) as slide:
            assert slide.info.name == name
            assert slide.read_level(0, 0, 0, 8, 8).shape == (8, 8, 3)
