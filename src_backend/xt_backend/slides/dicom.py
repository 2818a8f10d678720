"""Just enough DICOM to tell which files of a folder belong together."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["dicom_files", "is_dicom", "series_uid"]

_SERIES_UID = (0x0020, 0x000E)
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_ITEM = (0xFFFE, 0xE000)
_ITEM_END = (0xFFFE, 0xE00D)
_SEQUENCE_END = (0xFFFE, 0xE0DD)
_IMPLICIT = "1.2.840.10008.1.2"
_LONG_FORMS = {
    b"OB",
    b"OD",
    b"OF",
    b"OL",
    b"OV",
    b"OW",
    b"SQ",
    b"SV",
    b"UC",
    b"UN",
    b"UR",
    b"UT",
    b"UV",
}
_UNDEFINED = 0xFFFFFFFF
_MAX_UID = 64
_MAX_DEPTH = 16


def is_dicom(path: Path) -> bool:
    """Whether the file has a DICOM preamble; unreadable files have none."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder, sorted: `.dcm`, or without suffix but with preamble.

    Raises:
        OSError: The folder cannot be listed.
    """
    return sorted(
        file
        for file in folder.iterdir()
        if not file.name.startswith(".")
        and file.is_file()
        and (file.suffix.lower() == ".dcm" or (not file.suffix and is_dicom(file)))
    )


def series_uid(path: Path) -> str | None:
    """The Series Instance UID; None where the file is no DICOM or cannot be followed."""
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
            return _find_series(file)
    except (OSError, struct.error, _Unreadable):
        return None


class _Unreadable(Exception):
    """The structure makes no sense."""


def _find_series(file: BinaryIO) -> str | None:
    implicit = False
    while True:
        start = file.tell()
        tag = _peek_tag(file, start)
        # The file meta group is always explicit; what follows is as it declares.
        in_meta = tag[0] == 0x0002
        if tag > _SERIES_UID:
            return None
        tag, length, is_sequence = _header(file, implicit and not in_meta)
        if tag in (_SERIES_UID, _TRANSFER_SYNTAX):
            if length > _MAX_UID:
                raise _Unreadable
            uid = file.read(length).rstrip(b"\0 ").decode("ascii", "replace")
            if tag == _SERIES_UID:
                return uid or None
            implicit = uid == _IMPLICIT
        else:
            _skip(file, length, is_sequence, implicit and not in_meta, 0)


def _peek_tag(file: BinaryIO, start: int) -> tuple[int, int]:
    group, element = struct.unpack("<HH", file.read(4))
    file.seek(start)
    return group, element


def _header(file: BinaryIO, implicit: bool) -> tuple[tuple[int, int], int, bool]:
    """Tag, length and whether it is a sequence; the file then stands at the value."""
    group, element = struct.unpack("<HH", file.read(4))
    if implicit or group == 0xFFFE:
        (length,) = struct.unpack("<I", file.read(4))
        return (group, element), length, length == _UNDEFINED
    form = file.read(2)
    if form in _LONG_FORMS:
        (length,) = struct.unpack("<2xI", file.read(6))
    else:
        (length,) = struct.unpack("<H", file.read(2))
    return (group, element), length, length == _UNDEFINED


def _skip(file: BinaryIO, length: int, open_ended: bool, implicit: bool, depth: int) -> None:
    if not open_ended:
        file.seek(length, 1)
        return
    if depth > _MAX_DEPTH:
        raise _Unreadable
    while True:
        tag, length, open_ended = _header(file, implicit)
        if tag in (_SEQUENCE_END, _ITEM_END):
            return
        _skip(file, length, open_ended, implicit, depth + 1)
