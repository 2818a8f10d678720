"""What a command was asked to read: slides, folders and manifests, as one list of rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import InputNotFoundError, UsageError
from xt_backend.slides import find_slides

__all__ = ["InputRow", "Inputs", "read_inputs"]

MANIFEST_COLUMNS = ("slide", "slide_mpp", "roi", "label", "patient")
MANIFEST_SUFFIX = ".csv"


@dataclass(frozen=True)
class InputRow:
    """One slide to be worked on.

    Attributes:
        row: Its place among the inputs, from 0.
        path: Slide file or DICOM folder; may not exist when a manifest names it.
        slide_mpp: Pixel size from the manifest, um/px.
        roi: GeoJSON file from the manifest.
        problem: Why this row cannot be worked on; empty when it can.
    """

    row: int
    path: Path
    slide_mpp: float | None = None
    roi: Path | None = None
    label: str = ""
    patient: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Inputs:
    """All rows, and the files that were passed over with the reason."""

    rows: tuple[InputRow, ...]
    passed_over: tuple[tuple[Path, str], ...] = ()


def read_inputs(inputs: Sequence[Path]) -> Inputs:
    """List the slides of files, DICOM folders, folders and manifest CSVs, in the given order.

    Raises:
        InputNotFoundError: An explicitly named path does not exist.
        UsageError: No input at all, a manifest without its column, or no slide found.
    """
    if not inputs:
        raise UsageError("No input was given", "Name slides, folders or a manifest CSV")
    rows: list[InputRow] = []
    passed_over: list[tuple[Path, str]] = []
    for path in inputs:
        if not path.exists():
            raise InputNotFoundError(f"There is no file or folder {path}", "Check the path")
        if path.suffix.lower() == MANIFEST_SUFFIX and path.is_file():
            rows += _read_manifest(path, first_row=len(rows))
            continue
        found = find_slides([path])
        passed_over += found.passed_over
        rows += [InputRow(len(rows) + i, slide) for i, slide in enumerate(found.slides)]
    if not rows:
        looked = ", ".join(path.name for path in inputs)
        seen = f"; {len(passed_over)} other files were passed over" if passed_over else ""
        raise UsageError(f"No slide was found in {looked}{seen}", "Name a slide file or its folder")
    return Inputs(tuple(rows), tuple(passed_over))


def _read_manifest(path: Path, first_row: int) -> list[InputRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"The manifest {path.name} is not UTF-8 text", "Save it as CSV UTF-8"
        ) from error
    reader = csv.DictReader(text.splitlines())
    columns = [name.strip() for name in reader.fieldnames or []]
    if "slide" not in columns:
        raise UsageError(
            f"The manifest {path.name} has no column 'slide' (its columns: {', '.join(columns)})",
            f"Its first line names columns among: {', '.join(MANIFEST_COLUMNS)}",
        )
    unknown = [name for name in columns if name and name not in MANIFEST_COLUMNS]
    if unknown:
        raise UsageError(
            f"The manifest {path.name} has an unknown column '{unknown[0]}'",
            f"Known are: {', '.join(MANIFEST_COLUMNS)}",
        )
    reader.fieldnames = columns
    rows: list[InputRow] = []
    for record in reader:
        values = {key: (value or "").strip() for key, value in record.items() if key}
        rows.append(_manifest_row(values, path.parent, first_row + len(rows)))
    return rows


def _manifest_row(values: dict[str, str], folder: Path, row: int) -> InputRow:
    name = values.get("slide", "")
    path = folder / name
    problem = ""
    slide_mpp = None
    if not name:
        problem = "The manifest names no slide in this row. Fill in the column 'slide'."
    elif not path.exists():
        problem = f"There is no file {path.name}. Check the manifest; paths are relative to it."
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
    roi = folder / values["roi"] if values.get("roi") else None
    if roi is not None and not roi.is_file():
        problem = problem or f"There is no ROI file {roi.name}. Check the manifest."
    return InputRow(
        row=row,
        path=path,
        slide_mpp=slide_mpp,
        roi=roi,
        label=values.get("label", ""),
        patient=values.get("patient", ""),
        problem=problem,
    )
