"""Which slide of one run belongs to which of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import InputNotFoundError, StoreError, UsageError
from xt_backend.keys import RunH5, SlideStatus
from xt_backend.outputs import SlideRow
from xt_backend.tables import read_table

from .finished_run import FinishedRun

__all__ = ["SlidePair", "pair_slides"]

_COLUMNS = ("a", "b")


@dataclass(frozen=True)
class SlidePair:
    """A slide of either run, or of both.

    Attributes:
        a: Row of the first run.
        b: Row of the second.
    """

    a: SlideRow | None
    b: SlideRow | None


def pair_slides(a: FinishedRun, b: FinishedRun, table: Path | None = None) -> list[SlidePair]:
    """Every slide of both runs once: paired by a table, else by id, else by content.

    Slides whose name a run has more than once are paired by content first.

    Args:
        a: The first run.
        b: The second.
        table: CSV with the columns a and b: file names or ids. Slides that are not in it are
            left out.

    Raises:
        InputNotFoundError: There is no such table.
        UsageError: It is no such table, or names slides that the runs do not have.
    """
    if table is not None:
        return _named(a, b, table)
    of_b = {row.id: row for row in b.rows}
    found = _numbered(a, b)
    for row in found.values():
        del of_b[row.id]
    for row in a.rows:
        if row.id not in found and row.id in of_b:
            found[row.id] = of_b.pop(row.id)
    alone = [row for row in a.rows if row.id not in found]
    contents = {_content(b, row): row for row in of_b.values()} if alone else {}
    for row in alone:
        same = contents.pop(_content(a, row), None) if contents else None
        if same is not None:
            found[row.id] = of_b.pop(same.id)
    pairs = [SlidePair(row, found.get(row.id)) for row in a.rows]
    return [*pairs, *(SlidePair(None, row) for row in of_b.values())]


def _numbered(a: FinishedRun, b: FinishedRun) -> dict[str, SlideRow]:
    """Rows of the second run by the id in the first, of the same name and the same content.

    Only of names that stand in a run more than once: ids number such slides in the order of the
    inputs, so that with other inputs the same id may be another slide's.
    """
    numbered = {
        name
        for run in (a, b)
        for name, n in Counter(row.slide for row in run.rows).items()
        if n > 1
    }
    there: dict[tuple[str, str], dict[str, SlideRow]] = {}
    for row in b.rows:
        if row.slide in numbered:
            there.setdefault((row.slide, _content(b, row)), {})[row.id] = row
    left = [
        (row.id, there.get((row.slide, _content(a, row)), {}))
        for row in a.rows
        if row.slide in numbered
    ]
    # Of several with the same content (other ROIs, say) those of the same id belong together.
    found = {slide_id: rows.pop(slide_id) for slide_id, rows in left if slide_id in rows}
    for slide_id, rows in left:
        if slide_id not in found and rows:
            found[slide_id] = rows.pop(next(iter(rows)))
    return found


def _content(run: FinishedRun, row: SlideRow) -> str:
    """What tells a slide by its pixels; of those that are not known, something of their own."""
    if row.status == SlideStatus.FAILED:
        return f"failed {id(run)} {row.id}"
    try:
        known = run.score_map(row).run_meta.get(RunH5.META_SLIDE_IDENTITY)
    except StoreError:
        known = None
    return f"unknown {id(run)} {row.id}" if known is None else str(known)


def _named(a: FinishedRun, b: FinishedRun, table: Path) -> list[SlidePair]:
    if not table.is_file():
        raise InputNotFoundError(f"There is no file {table}", "Check --pairs")
    lines = read_table(table, table.name, _COLUMNS, UsageError, known=_COLUMNS)
    if not lines:
        raise UsageError(f"{table.name} names no slides", "Write a line for each pair")
    pairs = [
        SlidePair(*(
            _row(run.rows, line.values[side], f"{table.name} line {line.line}", side.upper())
            for run, side in ((a, "a"), (b, "b"))
        ))
        for line in lines
    ]  # fmt: skip
    ids = [pair.a.id for pair in pairs if pair.a is not None]
    if twice := [name for name in ids if ids.count(name) > 1]:
        raise UsageError(f"{table.name} names {twice[0]} of run A twice", "Keep one line of it")
    return pairs


def _row(rows: Sequence[SlideRow], name: str, where: str, side: str) -> SlideRow:
    found = [row for row in rows if name in (row.id, row.slide)]
    if not found:
        raise UsageError(
            f"{where}: run {side} has no slide {name!r}",
            "Write the id or the file name, as in slides.csv",
        )
    if len(found) > 1:
        raise UsageError(
            f"{where}: run {side} has {name!r} more than once", "Write the id, as in slides.csv"
        )
    return found[0]
