"""A slide's identity: the same for a copy, another for other content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from xt_backend.errors import SlideError
from xt_backend.slides import open_slide
from xt_backend.slides.identity import identity_of

from .slide_makers import texture, write_slide


def _identity(path: Path) -> str:
    with open_slide(path) as slide:
        return slide.identity()


def test_a_copy_elsewhere_under_another_name_is_the_same(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "one.tiff", [texture(300, 200)])
    (tmp_path / "far").mkdir()
    copy = shutil.copy(path, tmp_path / "far" / "zwei.tif")
    os.utime(copy, (1, 1))
    assert _identity(copy) == _identity(path)


def test_every_byte_of_a_small_file_counts(tmp_path: Path) -> None:
    content = bytearray(os.urandom(5000))
    path = tmp_path / "x"

    def identity() -> str:
        path.write_bytes(content)
        return identity_of([path], None)

    seen = {identity()}
    for place in (0, 1, 2500, 4999):
        content[place] ^= 1
        seen.add(identity())
    content.append(0)
    seen.add(identity())
    assert len(seen) == 6
    assert len({identity_of([path], "a"), identity_of([path], "b"), *seen}) == 8


def test_large_files_are_sampled_at_both_ends_and_between(tmp_path: Path) -> None:
    size = 20 << 20
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(size)
    whole = identity_of([path], None)
    step = (size - 65536) // 127
    for place in (0, 65535, step + 5, 64 * step + 100, size - 65536, size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        assert identity_of([path], None) != whole, place
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\0")
    assert identity_of([path], None) == whole
    with path.open("ab") as file:
        file.write(b"\0")
    assert identity_of([path], None) != whole, "another size"


@pytest.mark.parametrize(
    ("main", "folder", "part"),
    [
        ("bcss_1015_crop_mirax.mrxs", "bcss_1015_crop_mirax", "Data0000.dat"),
        ("bcss_1015_crop_vms/bcss_1015.vms", "bcss_1015_crop_vms", "bcss_1015.jpg"),
        ("bcss_1008_dicom", "bcss_1008_dicom", "volume_896x640.dcm"),
    ],
)
def test_companions_count(
    tmp_path: Path, shared_data: Path, main: str, folder: str, part: str
) -> None:
    layouts = shared_data / "slides-layouts"
    shutil.copytree(layouts / folder, tmp_path / folder)
    if (layouts / main).is_file() and "/" not in main:
        shutil.copy(layouts / main, tmp_path / main)
    for file in tmp_path.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    before = _identity(layouts / main)
    assert _identity(tmp_path / main) == before
    with open_slide(tmp_path / main) as slide:
        assert not slide.has_changed()
        target = tmp_path / folder / part
        with target.open("r+b") as file:
            # Far from the pixels that OpenSlide's quickhash reads.
            file.seek(target.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
        os.utime(target, ns=(1, 1))
        assert slide.has_changed()
        assert slide.identity() != before


def test_changes_of_size_time_and_presence_are_noticed(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "x.tiff", [texture(90, 80)])
    with open_slide(path) as slide:
        assert not slide.has_changed()
        os.utime(path, ns=(1, 1))
        assert slide.has_changed()
    with open_slide(path) as slide:
        content = path.read_bytes()
        path.write_bytes(content + b"\0")
        os.utime(path, ns=(1, 1))
        assert slide.has_changed()
        path.unlink()
        assert slide.has_changed()
        with pytest.raises(SlideError, match="cannot be read"):
            slide.identity()
