"""A part of the page: words, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "Section", "Table", "number", "spread"]


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        columns: Headings; the first column is left-aligned, the others right-aligned.
        rows: One cell a column.
        caption: One line above it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def to_markdown(self) -> str:
        """As a pipe table."""
        rule = ["---", *("---:" for _ in self.columns[1:])]
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, rule, *self.rows)]
        return "\n".join([self.caption, "", *lines] if self.caption else lines)

    def to_text(self) -> str:
        """In columns of fixed width."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = []
        for row in (self.columns, *self.rows):
            first, *others = zip(row, widths, strict=True)
            cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
            lines.append("  ".join(cells).rstrip())
        return "\n".join([self.caption, *lines] if self.caption else lines)


@dataclass(frozen=True)
class Picture:
    """A picture of a section.

    Attributes:
        name: Of the file, without folder and suffix.
        caption: What is to be seen, also for who cannot see it.
        draw: Gives the figure.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Section:
    """What the page says about one benchmark.

    Attributes:
        title: Heading.
        before: Paragraphs before the tables: what was measured, and how.
        tables: Rows.
        pictures: Below the tables.
        after: Paragraphs below: what the numbers say.
    """

    title: str
    before: Sequence[str]
    tables: Sequence[Table]
    pictures: Sequence[Picture] = ()
    after: Sequence[str] = field(default_factory=tuple)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """The mean of several numbers and, in brackets, the least and the largest."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = number(sum(known) / len(known), digits)
    if len(known) == 1:
        return mean
    return f"{mean} ({number(min(known), digits)} to {number(max(known), digits)})"
