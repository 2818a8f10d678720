"""Damage to files: what disks, networks, other programs and ill will make of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["damage_bytes", "damage_text"]

_NUMBERS = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
            0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
_WORDS = ("0", "-1", "1e999", "-0", "NaN", "Infinity", "null", "true", "[]", "{}", '""', "1e-320",
          "99999999999999999999999", "0.1", "'", '"', ",", ";", "\n", "\t", "\0", "\ufeff", "..",
          "&a", "*a", "!!python/object:os.system", "\ud7ff", "🔬", "=1+1", "~", "|", "#",
          "[" * 3000, '{"a":' * 3000, "9" * 5000)  # fmt: skip


def damage_bytes(data: bytes, rng: random.Random, places: range | None = None) -> bytes:
    """One to four changes anywhere in some bytes, half of them in the given places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            break
        near = places if places and rng.random() < 0.5 else range(len(changed))
        at = min(rng.choice(near), len(changed) - 1)
        rng.choice(_CHANGES)(changed, at, rng)
    return bytes(changed)


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.randrange(256)


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((2, 4, 8))
    value = rng.choice(_NUMBERS) % 2 ** (8 * size)
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at:]


def _remove(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.choice((1, 2, 16, 300))]


def _repeat(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = data[at : at + rng.choice((1, 4, 64, 2000))]


def _blank(data: bytearray, at: int, rng: random.Random) -> None:
    n = min(rng.choice((4, 64, 4096)), len(data) - at)
    data[at : at + n] = bytes([rng.choice((0, 255))]) * n


def _copy(data: bytearray, at: int, rng: random.Random) -> None:
    n = rng.choice((2, 12, 20, 200))
    source = rng.randrange(len(data))
    data[at : at + n] = data[source : source + n]


_CHANGES: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    _flip, _overwrite, _number, _number, _number, _cut, _remove, _repeat, _blank, _copy,
)  # fmt: skip


def damage_text(data: bytes, rng: random.Random) -> bytes:
    """One to four words of a text replaced, swapped, removed or put in; sometimes its bytes."""
    if rng.random() < 0.2:
        return damage_bytes(data, rng)
    text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 4))):
        words = list(re.finditer(r'"[^"]*"|[\w.+-]+|[^\w\s]', text))
        if not words:
            break
        word, other = rng.choice(words), rng.choice(words)
        new = rng.choice((rng.choice(_WORDS), other[0], "", word[0] * 2))
        text = text[: word.start()] + new + text[word.end() :]
    return text.encode("utf-8", "surrogatepass")
