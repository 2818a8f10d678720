"""Words that messages of all rooms share."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 region``, ``12,000 regions``.

    Args:
        n: How many.
        one: The noun for a single thing.
        many: The noun for any other number; `one` with an s when empty.
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"
