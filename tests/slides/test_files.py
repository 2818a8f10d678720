"""The two file formats that are looked into by hand: DICOM's series and TIFF's directories."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from xt_backend.slides.dicom import series_uid
from xt_backend.slides.tiff import is_tiff, summarise_tiff

from .slide_makers import texture, write_slide

UID = "1.2.840.99"
OTHER = "9.9.9"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def _even(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def _short(group: int, element: int, form: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, element, form, len(value)) + value


def _bare(group: int, element: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", group, element, len(value) if length is None else length) + value


def _file(path: Path, *elements: bytes, syntax: str = EXPLICIT) -> Path:
    meta = _short(0x0002, 0x0010, b"UI", _even(syntax))
    path.write_bytes(bytes(128) + b"DICM" + meta + b"".join(elements))
    return path


def test_series_behind_a_sequence_that_names_another(tmp_path: Path) -> None:
    """A referenced series comes first in the file; only the file's own counts."""
    inner = _short(0x0020, 0x000E, b"UI", _even(OTHER))
    item = _bare(0xFFFE, 0xE000, inner)
    sequence = struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", len(item)) + item
    open_item = _bare(0xFFFE, 0xE000, inner, 0xFFFFFFFF) + _bare(0xFFFE, 0xE00D, b"")
    open_sequence = (
        struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFFFFFF)
        + open_item
        + _bare(0xFFFE, 0xE0DD, b"")
    )
    own = _short(0x0020, 0x000E, b"UI", _even(UID))
    comment = _short(0x0010, 0x0010, b"PN", b"DOE^JOHN")
    for number, before in enumerate((sequence, open_sequence)):
        assert series_uid(_file(tmp_path / f"{number}", before, comment, own)) == UID


def test_series_in_implicit_form(tmp_path: Path) -> None:
    inner = _bare(0x0020, 0x000E, _even(OTHER))
    item = _bare(0xFFFE, 0xE000, inner, 0xFFFFFFFF) + _bare(0xFFFE, 0xE00D, b"")
    sequence = _bare(0x0008, 0x1115, item, 0xFFFFFFFF) + _bare(0xFFFE, 0xE0DD, b"")
    own = _bare(0x0020, 0x000E, _even(UID))
    assert series_uid(_file(tmp_path / "x", sequence, own, syntax=IMPLICIT)) == UID


@pytest.mark.parametrize(
    "elements",
    [
        [],
        [_short(0x0028, 0x0010, b"US", b"\1\0"), _short(0x0020, 0x000E, b"UI", b"1.2 ")],
        [_short(0x0020, 0x000E, b"UI", b"1" * 200)],
        [struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFFFFFF)],
        [struct.pack("<HH2s2xI", 0x0008, 0x1115, b"SQ", 0xFFFFFFFF)]
        + [_bare(0xFFFE, 0xE000, b"", 0xFFFFFFFF)] * 5000,
        [b"\x08\x00"],
    ],
    ids=["nothing", "too late", "too long", "open end", "deep", "cut"],
)
def test_no_series(tmp_path: Path, elements: list[bytes]) -> None:
    assert series_uid(_file(tmp_path / "x", *elements)) is None
    (tmp_path / "y").write_bytes(b"no DICOM")
    assert series_uid(tmp_path / "y") is None
    assert series_uid(tmp_path / "missing") is None


def test_real_series(shared_data: Path) -> None:
    layouts, vendor = shared_data / "slides-layouts", shared_data / "slides-vendor"
    uids = {series_uid(file) for file in (layouts / "bcss_1008_dicom").iterdir()}
    boxes = {series_uid(file) for file in (vendor / "dicom-boxes").iterdir()}
    assert len(uids) == len(boxes) == 1
    assert None not in uids | boxes
    assert uids != boxes


@pytest.mark.parametrize("options", [{"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": False}])
def test_directories_in_every_form(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path, **options) as tiff:
        for size in (200, 100):
            tiff.write(texture(size, size), tile=(64, 64), photometric="rgb", metadata=None)
        tiff.write(np.zeros((9, 9), np.uint8), metadata=None)
    assert is_tiff(path.read_bytes()[:8])
    summary = summarise_tiff(path)
    assert (summary.n_pages, summary.tiled, summary.n_segments) == (3, True, 16 + 4 + 1)
    assert summary.is_whole
    assert summary.truncation == ""


def test_every_cut_is_seen(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "x.tiff", [texture(300, 200), texture(100, 66)])
    content = path.read_bytes()
    cut = tmp_path / "cut.tiff"
    for length in (*range(8, len(content) - 1, 977), len(content) - 1):
        cut.write_bytes(content[:length])
        assert not summarise_tiff(cut).is_whole, length


def test_directory_loops_end(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "x.tiff", [texture(100, 100)])
    content = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * count, first)
    path.write_bytes(content)
    assert summarise_tiff(path).n_pages == 1
