r"""Text that goes into tables: visible, one line, no formula, and reversible.

Invisible characters become backslash escapes (a line break ``\n`` becomes the two characters
``\`` and ``n``), and a cell that a spreadsheet would take for a formula gets a leading apostrophe.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["escape_cell", "from_visible", "unescape_cell", "visible"]

_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")  # the wide forms count in spreadsheets too
_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
_LONG = {escape: char for char, escape in _SHORT.items()}
_ESCAPE = re.compile(r"\\(?:[\\nrt0]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
# Control characters, lone surrogates, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS_TEXT = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


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
    """The text with characters that cannot be seen, or turn others around, written as escapes."""
    return "".join(_escape(char) for char in text)


def from_visible(text: str) -> str:
    """The inverse of `visible`."""
    return _ESCAPE.sub(lambda found: _unescape(found[0]), text)


def _is_formula(text: str) -> bool:
    # Apostrophes are counted off, so that a text that starts with one can be told apart.
    return text.lstrip("'")[:1] in _FORMULA


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if unicodedata.category(char) not in _INVISIBLE and char not in _TURNS_TEXT:
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _unescape(escape: str) -> str:
    return _LONG.get(escape) or chr(int(escape[2:], 16))
