"""Tables that users write: CSV as any spreadsheet saves it, or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import XTError

__all__ = ["PARQUET_SUFFIX", "TableRow", "read_table"]

PARQUET_SUFFIX = ".parquet"
_SAVE = "Save it as CSV UTF-8"


@dataclass(frozen=True)
class TableRow:
    """A line below the column names.

    Attributes:
        line: Its number in the file, from 1; of its last one where a cell holds line breaks. Of
            Parquet, the number of the row from 2, as if it were a CSV.
        values: By column, in lower case; without blanks around, empty where a cell is missing.
        surplus: It has more cells than there are columns.
        of_parquet: The file has rows, and no lines.
    """

    line: int
    values: dict[str, str]
    surplus: bool
    of_parquet: bool = False

    @property
    def place(self) -> str:
        """Where it stands in the file, as users count."""
        return f"row {self.line - 1}" if self.of_parquet else f"line {self.line}"


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
    first line. A file named ``.parquet`` is read as such; its values count as text.

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
    if path.suffix.lower() == PARQUET_SUFFIX:
        columns, rows = _read_parquet(path, shown, error)
        _check_columns(columns, shown, needed, known, error, way_out)
        return rows
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise error(f"{shown} is not UTF-8 text (line {line})", _SAVE) from problem
    except OSError as problem:
        raise error(
            f"{shown} cannot be read: {problem.strerror}", "Ask for permission to read it"
        ) from problem
    if "\0" in text.partition("\n")[0]:
        # Without a mark at its beginning, UTF-16 of plain letters is UTF-8 too.
        raise error(f"{shown} is not UTF-8 text (line 1): it looks like UTF-16", _SAVE)
    # Not split into lines here: a quoted cell may hold line breaks.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows = []
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


def _read_parquet(path: Path, shown: str, error: type[XTError]) -> tuple[list[str], list[TableRow]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as missing:
        raise error(
            f"{shown} is Parquet, which needs pyarrow",
            'Install it with: pip install "napari-xt[parquet]", or save it as CSV',
        ) from missing
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as problem:
        reason = str(problem).partition("\n")[0]
        raise error(f"{shown} cannot be read as Parquet ({reason})", _SAVE) from problem
    columns = [name.strip().lower() for name in table.column_names]
    cells = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = zip(*cells, strict=True)
    return columns, [
        TableRow(line, dict(zip(columns, row, strict=True)), surplus=False, of_parquet=True)
        for line, row in enumerate(rows, start=2)
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


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
