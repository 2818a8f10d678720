r"""Text that goes into tables: visible, one line, no formula, and reversible.

Invisible characters become backslash escapes (a line break ``\n`` becomes the two characters
``\`` and ``n``), and a cell that a spreadsheet would take for a formula gets a leading apostrophe.
"""

from __future__ import annotations

import re

from xt_backend.wording import on_one_line

__all__ = ["escape_cell", "from_visible", "unescape_cell", "visible"]

_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")  # the wide forms count in spreadsheets too
_LONG = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t", "\\0": "\0"}
_ESCAPE = re.compile(r"\\(?:[\\nrt0]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def escape_cell(text: str) -> str:
    """The cell for a text."""
    text = visible(text)
    return f"'{text}" if _is_formula(text) else text


def unescape_cell(cell: str) -> str:
    """The text of a cell that `escape_cell` made."""
    if cell.startswith("'") and _is_formula(cell):
        cell = cell[1:]
    return from_visible(cell)


def visible(text: str) -> str:
    """`on_one_line`, with backslashes doubled: `from_visible` takes it back."""
    return on_one_line(text.replace("\\", "\\\\"))


def from_visible(text: str) -> str:
    """The inverse of `visible`."""
    return _ESCAPE.sub(lambda found: _unescape(found[0]), text)


def _is_formula(text: str) -> bool:
    # Apostrophes are counted off, so that a text that starts with one can be told apart.
    return text.lstrip("'")[:1] in _FORMULA


def _unescape(escape: str) -> str:
    return _LONG.get(escape) or chr(int(escape[2:], 16))
