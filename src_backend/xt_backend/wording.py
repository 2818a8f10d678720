"""Words that messages of all rooms share."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

__all__ = ["STAGE_WORDS", "counted", "did_you_mean", "on_one_line", "size_words"]

STAGE_WORDS = {
    "encode": "encoding",
    "wait": "waiting for pixels",
    "stain": "normalising stain",
    "context": "context",
    "reload": "reading stored features",
    "write": "writing",
    "open": "opening slides",
    "load": "loading the model",
    "probe": "choosing the encoder",
    "other": "other",
}
"""What the time of a run goes into, by the names in run.json."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
# Control characters, lone surrogates, line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNS_TEXT = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 region``, ``12,000 regions``.

    Args:
        n: How many.
        one: The noun for a single thing.
        many: The noun for any other number; `one` with an s when empty.
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean tumour? `` for a name that is nearly one of the known ones; else empty.

    Capitals do not count.
    """
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"Did you mean {folded[near[0]]}? " if near else ""


def size_words(n_bytes: int) -> str:
    """A size on the disk: ``5.3 kB``, ``12.5 MB``, ``3.0 GB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.1f} kB"


def on_one_line(text: str) -> str:
    r"""The text with characters that cannot be seen, or turn others around, written as escapes.

    A line break becomes the two characters ``\`` and ``n``. Backslashes stay as they are, so that
    it does no harm to do it twice.
    """
    return "".join(_escape(char) for char in text)


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if unicodedata.category(char) not in _INVISIBLE and char not in _TURNS_TEXT:
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
