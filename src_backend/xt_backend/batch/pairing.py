"""Which slide of one run belongs to which of another."""

from __future__ import annotations

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
    pairs = [SlidePair(row, of_b.pop(row.id)) for row in a.rows if row.id in of_b]
    paired = {pair.a.id for pair in pairs if pair.a is not None}
    alone = [row for row in a.rows if row.id not in paired]
    contents = {_content(b, row): row for row in of_b.values()} if alone else {}
    for row in alone:
        found = contents.pop(_content(a, row), None) if contents else None
        if found is not None:
            del of_b[found.id]
        pairs.append(SlidePair(row, found))
    order = {row.id: number for number, row in enumerate(a.rows)}
    pairs.sort(key=lambda pair: order[pair.a.id] if pair.a is not None else len(order))
    return [*pairs, *(SlidePair(None, row) for row in of_b.values())]


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
