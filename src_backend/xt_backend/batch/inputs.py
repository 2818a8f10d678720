"""What a command was asked to read: slides, folders and manifests, as one list of rows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from xt_backend.errors import InputNotFoundError, SlideMppError, UsageError
from xt_backend.outputs import visible
from xt_backend.slides import check_mpp, find_slides
from xt_backend.slides.discover import why_no_slide
from xt_backend.slides.sifting import Sifter
from xt_backend.tables import PARQUET_SUFFIX, read_table
from xt_backend.wording import counted

from .isolation import Isolation

__all__ = ["InputRow", "Inputs", "read_inputs"]

MANIFEST_COLUMNS = ("slide", "slide_mpp", "roi", "label", "patient")
MANIFEST_SUFFIXES = (".csv", PARQUET_SUFFIX)
_PERMISSION = "Ask for permission to read it"
_SURPLUS = "This row has more cells than columns. Put names with commas in quotes."


@dataclass(frozen=True)
class InputRow:
    """One slide to be worked on.

    Attributes:
        row: Its place among the inputs, from 0.
        path: Slide file or DICOM folder; may not exist when a manifest names it.
        place: Where the manifest names it, such as ``Manifest, line 3``; empty where none does.
        shown: Stands for the file name in outputs where that must not be told.
        slide_mpp: Pixel size from the manifest, um/px.
        roi: GeoJSON file from the manifest.
        problem: Why this row cannot be worked on; empty when it can.
        n_bytes: Of its files, about as much work as there is in it; 0 where that is not known.
    """

    row: int
    path: Path
    slide_mpp: float | None = None
    roi: Path | None = None
    label: str = ""
    patient: str = ""
    problem: str = ""
    place: str = ""
    shown: str = ""
    n_bytes: int = 0

    def told(self, problem: str) -> str:
        """A problem with where the manifest names the slide, if one does."""
        return f"{self.place}: {problem}" if self.place else problem

    @property
    def name(self) -> str:
        """What outputs call it: the file name, never a folder."""
        return self.shown or self.path.name


@dataclass(frozen=True)
class Inputs:
    """All rows, and the files that were passed over with the reason."""

    rows: tuple[InputRow, ...]
    passed_over: tuple[tuple[Path, str], ...] = ()

    def passed_over_values(self) -> list[dict[str, str]]:
        """The files that were passed over, as plain values; no folder is named."""
        return [{"file": visible(path.name), "reason": reason} for path, reason in self.passed_over]


def read_inputs(inputs: Sequence[Path], isolation: Isolation | None = None) -> Inputs:
    """List the slides of files, DICOM folders, folders and manifests, in the given order.

    Args:
        inputs: Files and folders.
        isolation: Decode nothing in this process, only in one that may die; None where it may.

    Raises:
        InputNotFoundError: An explicitly named path does not exist.
        UsageError: No input at all, a manifest without its column, or no slide found.
    """
    if not inputs:
        raise UsageError("No input was given", "Name slides, folders or a manifest")
    rows: list[InputRow] = []
    passed_over: list[tuple[Path, str]] = []
    with ExitStack() as stack:
        why_not: Callable[[Path], str] = why_no_slide
        if isolation is not None:
            why_not = stack.enter_context(Sifter(isolation.give_up_s))
        for path in inputs:
            if missing := _missing(path, str(path)):
                raise InputNotFoundError(missing, "Check the path")
            if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
                rows += _read_manifest(path, first_row=len(rows))
                continue
            found = find_slides([path], why_not)
            passed_over += found.passed_over
            rows += [InputRow(len(rows) + i, slide) for i, slide in enumerate(found.slides)]
            for folder, reason in found.unlisted:
                if folder == path:
                    raise UsageError(f"The folder {path} cannot be listed: {reason}", _PERMISSION)
                rows.append(_unlisted(folder, reason, len(rows)))
    rows = [row if row.problem else replace(row, n_bytes=_n_bytes(row.path)) for row in rows]
    if not rows:
        looked = ", ".join(path.name for path in inputs)
        seen = f"; {_others(len(passed_over))} passed over" if passed_over else ""
        raise UsageError(f"No slide was found in {looked}{seen}", "Name a slide file or its folder")
    return Inputs(tuple(rows), tuple(passed_over))


def _n_bytes(path: Path) -> int:
    """Size of a slide; no file is opened for it."""
    # Of DICOM the folder, of MIRAX the folder beside the file holds the pixels.
    folder = path.with_suffix("") if path.suffix.lower() == ".mrxs" else path
    try:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                return sum(entry.stat().st_size for entry in entries if entry.is_file())
        return path.stat().st_size
    except OSError:
        return 0  # told when its turn comes


def _others(n: int) -> str:
    return f"{counted(n, 'other file')} {'was' if n == 1 else 'were'}"


def _unlisted(folder: Path, reason: str, row: int) -> InputRow:
    """A row for the slides that a folder may hold; its name stays out of all outputs."""
    return InputRow(
        row=row,
        path=folder,
        problem=f"A folder among the inputs cannot be listed: {reason}. {_PERMISSION}.",
        shown="(folder)",
    )


def _missing(path: Path, shown: str) -> str:
    """Why there is nothing to open at a path; empty when there is."""
    try:
        return "" if path.exists() else f"There is no file or folder {shown}"
    except (OSError, ValueError) as error:
        # A name that no file system takes, or a folder that may not be entered.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"There is no file {shown} that can be reached: {reason}"


def _read_manifest(path: Path, first_row: int) -> list[InputRow]:
    table = read_table(
        path,
        f"The manifest {path.name}",
        ("slide",),
        UsageError,
        known=MANIFEST_COLUMNS,
        way_out=f"Its first line names columns among: {', '.join(MANIFEST_COLUMNS)}",
    )
    rows: list[InputRow] = []
    for record in table:
        row = _manifest_row(record.values, path.parent, first_row + len(rows))
        if record.surplus and not row.problem:
            row = replace(row, problem=_SURPLUS)
        row = replace(row, place=f"Manifest, {record.place}")
        rows.append(replace(row, problem=row.told(row.problem) if row.problem else ""))
    return rows


def _absurd(slide_mpp: float) -> str:
    """Why no slide has this pixel size; empty where one may."""
    try:
        check_mpp(slide_mpp, slide_mpp)
    except SlideMppError as error:
        return f"{error.cause}. Correct slide_mpp in the manifest."
    return ""


def _manifest_row(values: dict[str, str], folder: Path, row: int) -> InputRow:
    # No path can hold a NUL, not even one that is only to be named in the table.
    name = values.get("slide", "").replace("\0", "\N{REPLACEMENT CHARACTER}")
    path = folder / name
    problem = ""
    slide_mpp = None
    if not name:
        problem = "This row names no slide. Fill in the column 'slide'."
    elif missing := _missing(path, path.name):
        problem = f"{missing}. Check the manifest; paths are relative to it."
    if text := values.get("slide_mpp", ""):
        try:
            slide_mpp = float(text)
        except ValueError:
            slide_mpp = math.nan
        if not math.isfinite(slide_mpp) or slide_mpp <= 0:
            slide_mpp = None
            problem = problem or (
                f"slide_mpp '{text}' is no positive number. Correct it in the manifest."
            )
        elif not problem:
            problem = _absurd(slide_mpp)
    roi = folder / values["roi"] if values.get("roi") else None
    if roi is not None and not problem:
        if missing := _missing(roi, roi.name):
            problem = f"{missing} for the ROI. Check the manifest."
        elif not roi.is_file():
            problem = f"The ROI {roi.name} is no file. Name a GeoJSON file in the manifest."
    return InputRow(
        row=row,
        path=path,
        slide_mpp=slide_mpp,
        roi=roi,
        label=values.get("label", ""),
        patient=values.get("patient", ""),
        problem=problem,
        shown="" if name else "(none)",  # not the manifest's folder
    )
