"""Which slides a list of files and folders stands for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openslide
from PIL import Image

from xt_backend.errors import InputNotFoundError
from xt_backend.keys import RunFile
from xt_backend.slides.companions import named_companions
from xt_backend.slides.dicom import dicom_files, series_uid
from xt_backend.slides.tiff import is_tiff, summarise_tiff

__all__ = ["SLIDE_SUFFIXES", "Discovery", "find_slides", "why_no_slide"]

SLIDE_SUFFIXES = frozenset(
    {".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide", ".tif", ".tiff"}
    | {".dcm", ".czi"}
)
"""Endings that are taken for slides in a folder, lower case."""

_PLAIN_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Attributes:
        slides: Slide files and DICOM folders, without repetition.
        passed_over: Files that are no slides, and why.
        unlisted: Folders that could not be looked into, and why.
    """

    slides: tuple[Path, ...]
    passed_over: tuple[tuple[Path, str], ...]
    unlisted: tuple[tuple[Path, str], ...] = ()


def why_no_slide(path: Path) -> str:
    """Why a TIFF file of a folder is passed over; empty for slides and for broken files.

    Args:
        path: The file, which is opened and a part of it decoded.
    """
    if path.name.endswith(RunFile.MASK):
        return "a mask of an earlier run"
    if openslide.OpenSlide.detect_format(path) is not None:
        return ""
    if _is_whole_image(path):
        return "a readable image, but no slide that OpenSlide knows"
    return ""


def find_slides(inputs: Sequence[Path], why_not: Callable[[Path], str] = why_no_slide) -> Discovery:
    """The slides that are named or lie in the folders that are named.

    A file is taken as it is. Folders are searched with all folders below them, their slides
    sorted; hidden files are skipped. A slide of several files counts once; the DICOM files of one
    slide count as their folder where it holds nothing else. In folders, TIFF files that are
    whole, readable images but no slides are passed over; broken files are kept, so that they are
    reported.

    Args:
        inputs: Files and folders.
        why_not: Says of a TIFF file in a folder why it is passed over, see `why_no_slide`.

    Raises:
        InputNotFoundError: An input does not exist.
    """
    slides: dict[str, Path] = {}
    passed_over: dict[str, tuple[Path, str]] = {}
    unlisted: dict[str, tuple[Path, str]] = {}
    for path in inputs:
        if not path.exists():
            raise InputNotFoundError(f"{path} does not exist", "Check the path")
        closed: list[Finding] = []
        listed = sorted(_search(path, closed, why_not)) if path.is_dir() else [(path, "")]
        for found, reason in listed:
            # Not resolved: two links to one file are two inputs.
            key = os.path.abspath(found)
            if reason:
                passed_over.setdefault(key, (found, reason))
            else:
                slides.setdefault(key, found)
        unlisted |= {os.path.abspath(folder): (folder, reason) for folder, reason in closed}
    return Discovery(
        tuple(slides.values()),
        tuple(entry for key, entry in passed_over.items() if key not in slides),
        tuple(unlisted.values()),
    )


Finding = tuple[Path, str]
"""A path and, if it is passed over, why."""


def _search(root: Path, closed: list[Finding], why_not: Callable[[Path], str]) -> Iterator[Finding]:
    """What lies below a folder; folders that cannot be listed are added to `closed`."""
    visited: set[str] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        try:
            entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
        except OSError as error:
            closed.append((folder, error.strerror or str(error)))
            continue
        files = [e for e in entries if not e.is_dir()]
        companions = {e.with_suffix("") for e in files if e.suffix.lower() == ".mrxs"}
        folders = [e for e in entries if e.is_dir() and e not in companions]
        yield from _in_folder(folder, files, why_not)
        pending.extend(reversed(folders))


def _in_folder(
    folder: Path, files: list[Path], why_not: Callable[[Path], str]
) -> Iterator[Finding]:
    slides = [file for file in files if file.suffix.lower() in SLIDE_SUFFIXES]
    dicom = [file for file in slides if file.suffix.lower() == ".dcm"]
    if not slides:
        # Archives export DICOM without suffixes.
        try:
            dicom = slides = dicom_files(folder)
        except OSError:
            return
    groups = _series(dicom)
    if len(groups) == 1 and len(dicom) == len(slides):
        yield folder, ""
        return
    named = {companion for file in slides for companion in _named(file)}
    firsts = {group[0] for group in groups}
    for file in slides:
        if file in named or (file in dicom and file not in firsts):
            continue
        suffix = file.suffix.lower()
        yield file, why_not(file) if suffix in _PLAIN_SUFFIXES else ""


def _series(files: list[Path]) -> list[list[Path]]:
    """DICOM files by series; a file whose series cannot be told stands for itself."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(series_uid(file) or f"file {file}", []).append(file)
    return list(groups.values())


def _named(file: Path) -> list[Path]:
    if file.suffix.lower() not in (".vms", ".vmu"):
        return []
    try:
        return named_companions(file)
    except OSError:
        return []


def _is_whole_image(path: Path) -> bool:
    # The decoders raise whatever their format makes them; all of it means that it is broken.
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if is_tiff(head):
            return summarise_tiff(path).is_whole and _first_segment_decodes(path)
        with Image.open(path, formats=("PNG", "JPEG", "BMP", "GIF")) as image:
            image.verify()
        return True
    except Exception:
        return False


def _first_segment_decodes(path: Path) -> bool:
    # Loaded here: it takes longer to load than all else in this room.
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        data, _, _ = next(iter(tiff.pages.first.segments()))
        return data is not None
