"""Opening a slide, and saying what is wrong when that fails."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import openslide

from xt_backend.errors import SlideOpenError
from xt_backend.slides.companions import missing_files, named_companions
from xt_backend.slides.dicom import dicom_files, is_dicom, series_uid
from xt_backend.slides.discover import SLIDE_SUFFIXES
from xt_backend.slides.handle import Handle, scrub
from xt_backend.slides.mirax import MiraxFolder
from xt_backend.slides.tiff import is_tiff, summarise_tiff
from xt_backend.wording import counted

__all__ = ["open_handle"]

_COPY_AGAIN = "Copy the slide again from its source"
_COPY_FOLDER = "Copy the whole folder again from its source"
_CONVERT = (
    "Convert it to a pyramidal TIFF with JPEG compression, for example with libvips or Bio-Formats"
)
_KINDS = (
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\xff\xd8\xff", "a plain JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)
_HEAD_BYTES = 4096


def open_handle(path: Path) -> tuple[Handle, Path]:
    """Opens a slide file or the one slide of a DICOM folder.

    Messages never name the file or its folder: they go into tables, also of pseudonymised runs.

    Args:
        path: File or folder.

    Returns:
        The handle and the file that it reads.

    Raises:
        SlideOpenError: Nothing there, nothing in it, cut off, or in no format that OpenSlide
            reads; the text says which.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _open_dicom_folder(path)
        if not stat.S_ISREG(mode):
            raise SlideOpenError("this is a device or pipe, not a file", "Give a slide file")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        kind = "link leads nowhere" if os.path.islink(path) else "file does not exist"
        raise SlideOpenError(f"the {kind}", "Check the path") from None
    except PermissionError:
        raise SlideOpenError(
            "the file may not be read by this user", "Ask for read permission or copy the slide"
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, SlideOpenError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise SlideOpenError(f"the path cannot be used: {reason}", "Check the path") from None
    if not head:
        raise SlideOpenError("the file is empty (0 bytes)", _COPY_AGAIN)
    return _open_file(path, head), path


def _open_file(path: Path, head: bytes) -> Handle:
    suffix = path.suffix.lower()
    if suffix == ".mrxs" and not MiraxFolder.of(path).path.is_dir():
        raise SlideOpenError(
            "the folder of the same name, which holds the pixels of this MIRAX (.mrxs) slide, is "
            "missing",
            "Copy the folder to the place beside the .mrxs file, and rename neither of them alone",
        )
    try:
        handle = Handle(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise SlideOpenError(*_diagnose(path, head)) from None
    except openslide.OpenSlideError as error:
        raise SlideOpenError(*_translate(path, head, str(error))) from None
    # Directories of NDPI files have a layout of their own.
    if is_tiff(head) and handle.properties.get("openslide.vendor") != "hamamatsu":
        truncation = _truncation(path)
        if truncation:
            handle.close()
            raise SlideOpenError(truncation, _COPY_AGAIN)
    return handle


def _truncation(path: Path) -> str:
    try:
        return summarise_tiff(path).truncation
    except OSError:
        return "the file became unreadable while it was being opened"


def _open_dicom_folder(folder: Path) -> tuple[Handle, Path]:
    files = dicom_files(folder)
    if not files:
        raise SlideOpenError(
            "this is a folder without DICOM files",
            "Give a slide file, or a folder that holds the DICOM files of one slide",
        )
    by_series: dict[str | None, Path] = {}
    for file in files:
        by_series.setdefault(series_uid(file), file)
    if len(by_series) > 1:
        raise SlideOpenError(
            f"the folder holds DICOM files of {len(by_series)} different series",
            "Name one .dcm file of the slide, or keep each slide in a folder of its own",
        )
    first: SlideOpenError | None = None
    for file in files:
        try:
            return open_handle(file)
        except SlideOpenError as error:
            first = first or error
    if first is None or len(files) == 1:
        raise first or SlideOpenError("the folder has changed while it was read", "Try again")
    raise SlideOpenError(
        f"none of the {len(files)} DICOM files in the folder opens; the first: {first.cause}",
        first.way_out,
    )


def _translate(path: Path, head: bytes, message: str) -> tuple[str, str]:
    """Cause and way out for a format that OpenSlide knows but does not open."""
    truncation = _truncation(path) if is_tiff(head) else ""
    if truncation:
        return truncation, _COPY_AGAIN
    compression = re.search(r"Unsupported TIFF compression: (\d+)", message)
    if compression:
        return f"its TIFF compression ({compression[1]}) is not supported", _CONVERT
    if path.suffix.lower() in (".vms", ".vmu"):
        missing = _missing_companions(path)
        if missing:
            return missing
    if path.suffix.lower() == ".mrxs":
        lacking = missing_files(path)
        damaged = f"a file in the folder of this MIRAX slide is damaged: {scrub(message, path)}"
        return lacking or damaged, _COPY_FOLDER
    return (
        f"OpenSlide cannot open it: {scrub(message, path)}",
        "Copy the slide again from its source, with all files that belong to it",
    )


def _missing_companions(path: Path) -> tuple[str, str] | None:
    named = named_companions(path)
    missing = [file for file in named if not file.is_file()]
    if not missing:
        return None
    return (
        f"{len(missing)} of the {counted(len(named), 'file')} that the slide is made of "
        f"{'is' if len(missing) == 1 else 'are'} missing",
        f"Copy them to the place beside the {path.suffix} file",
    )


def _diagnose(path: Path, head: bytes) -> tuple[str, str]:
    """Cause and way out for a file that OpenSlide does not know."""
    suffix = path.suffix.lower()
    if is_tiff(head):
        truncation = _truncation(path)
        if truncation:
            return truncation, _COPY_AGAIN
        summary = summarise_tiff(path)
        if not summary.tiled:
            return "the file is a plain TIFF image without tiles, not a slide", _CONVERT
        return "the file is a TIFF of a kind that OpenSlide does not know", _CONVERT
    if is_dicom(path):
        return "the DICOM file is not a whole-slide image, or of an unsupported kind", _CONVERT
    if suffix in (".vms", ".vmu"):
        missing = _missing_companions(path)
        if missing:
            return missing
    if suffix == ".mrxs" and head.startswith(b"\xff\xd8"):
        return missing_files(path) or "the folder of this MIRAX slide is damaged", _COPY_FOLDER
    rename = "Give the slide itself"
    if suffix in SLIDE_SUFFIXES:
        rename += "; the name ends like a slide's, the content is another"
    for magic, kind in _KINDS:
        if head.lstrip().startswith(magic):
            return f"the file holds {kind}, not a slide", rename
    if not head.strip(b"\0"):
        return "the file begins with zeros only, as an interrupted copy does", _COPY_AGAIN
    if _is_text(head):
        return "the file holds plain text, not a slide", rename
    return "OpenSlide does not recognise the content of the file", _COPY_AGAIN


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        # The last character may be cut in half.
        text = head.decode("utf-8", "strict" if len(head) < _HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)
