"""Which files make up one slide."""

from __future__ import annotations

from pathlib import Path

from xt_backend.slides.dicom import dicom_files, is_dicom, series_uid
from xt_backend.slides.mirax import MiraxFolder

__all__ = ["missing_files", "named_companions", "slide_files"]

_MAX_INDEX_BYTES = 1 << 20


def missing_files(path: Path) -> str:
    """Which files of a slide that opens are missing, as a sentence; else empty.

    Args:
        path: The file that OpenSlide opened.
    """
    lacks = MiraxFolder.of(path).lacks() if path.suffix.lower() == ".mrxs" else ""
    return f"the folder of this MIRAX slide lacks {lacks}" if lacks else ""


def named_companions(path: Path) -> list[Path]:
    """The files beside a Hamamatsu .vms or .vmu file that it names, present or not.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        text = file.read(_MAX_INDEX_BYTES).decode("utf-8", "replace")
    names = []
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        name = value.strip().replace("\\", "/").rpartition("/")[2]
        # Every companion has a key such as ImageFile(1,0), MapFile, OptimisationFile, MacroImage.
        if separator and name and ("File" in key or "Image" in key) and "." in name:
            names.append(path.with_name(name))
    return names


def slide_files(path: Path) -> tuple[Path, ...]:
    """All files of the slide that `path` stands for, `path` first, then sorted.

    Args:
        path: The file that OpenSlide opened.

    Raises:
        OSError: A companion folder cannot be listed.
    """
    suffix = path.suffix.lower()
    others: list[Path] = []
    mirax = MiraxFolder.of(path).path
    if suffix == ".mrxs" and mirax.is_dir():
        others = [file for file in mirax.iterdir() if file.is_file()]
    elif suffix in (".vms", ".vmu"):
        others = [file for file in named_companions(path) if file.is_file()]
    elif suffix == ".dcm" or (not suffix and is_dicom(path)):
        series = series_uid(path)
        others = [file for file in dicom_files(path.parent) if series_uid(file) == series]
    return (path, *sorted(set(others) - {path}))
