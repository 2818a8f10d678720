"""Tables that users write: CSV as any spreadsheet saves it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import XTError

__all__ = ["TableRow", "read_table"]

_SAVE = "Save it as CSV UTF-8"


@dataclass(frozen=True)
class TableRow:
    """A line below the column names.

    Attributes:
        line: Its number in the file, from 1; of its last one where a cell holds line breaks.
        values: By column, in lower case; without blanks around, empty where a cell is missing.
        surplus: It has more cells than there are columns.
    """

    line: int
    values: dict[str, str]
    surplus: bool


def read_table(
    path: Path,
    shown: str,
    needed: Sequence[str],
    error: type[XTError],
    *,
    known: Sequence[str] = (),
    way_out: str = _SAVE,
) -> list[TableRow]:
    """Read a table whose first line names its columns, in any case.

    Cells are parted by commas, semicolons or tabs, whichever comes first in this order in the
    first line.

    Args:
        path: The file.
        shown: What messages call it.
        needed: Columns that it must have.
        error: What is raised.
        known: All columns that it may have; any where empty.
        way_out: What to do about wrong columns.

    Raises:
        XTError: `error`: it cannot be read, is no CSV table in UTF-8, a column is missing, unknown
            or there twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{shown} is not UTF-8 text", _SAVE) from problem
    except OSError as problem:
        raise error(
            f"{shown} cannot be read: {problem.strerror}", "Ask for permission to read it"
        ) from problem
    # Not split into lines here: a quoted cell may hold line breaks.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[TableRow] = []
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_columns(columns, shown, needed, known, error, way_out)
        for cells in reader:
            if not cells:
                continue
            stripped = [cell.strip() for cell in cells]
            stripped += [""] * (len(columns) - len(cells))
            values = {name: cell for name, cell in zip(columns, stripped, strict=False) if name}
            rows.append(TableRow(reader.line_num, values, any(stripped[len(columns) :])))
    except csv.Error as problem:
        raise error(
            f"{shown} is no CSV table (near line {reader.line_num}: {problem})", _SAVE
        ) from problem
    return rows


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return next((one for one in ",;\t" if one in first), ",")


def _check_columns(
    columns: Sequence[str],
    shown: str,
    needed: Sequence[str],
    known: Sequence[str],
    error: type[XTError],
    way_out: str,
) -> None:
    named = [name for name in columns if name]
    if missing := [f"no column '{name}'" for name in needed if name not in named]:
        there = ", ".join(named)
        raise error(f"{shown} has {' and '.join(missing)} (its columns: {there})", way_out)
    if twice := [name for name in named if named.count(name) > 1]:
        raise error(f"{shown} has the column '{twice[0]}' twice", "Keep one of them")
    if known and (unknown := [name for name in named if name not in known]):
        raise error(
            f"{shown} has an unknown column '{unknown[0]}'", f"Known are: {', '.join(known)}"
        )
