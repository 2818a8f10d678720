"""Who decodes a slide's tiles: what is wished, and what came of it."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass

from xt_backend.errors import UsageError

__all__ = ["READER_VARIABLE", "Reading", "tell_once", "wants_direct"]

_log = logging.getLogger(__name__)

READER_VARIABLE = "NAPARI_XT_READER"


def wants_direct() -> bool:
    """Whether ``$NAPARI_XT_READER`` leaves the choice of the reader to the program.

    Raises:
        UsageError: It is neither ``auto`` nor ``openslide``.
    """
    wanted = os.environ.get(READER_VARIABLE) or "auto"
    if wanted not in ("auto", "openslide"):
        raise UsageError(f"{READER_VARIABLE} is {wanted!r}", "Set it to auto or openslide")
    return wanted == "auto"


@dataclass(frozen=True)
class Reading:
    """Who decodes a slide's tiles.

    Attributes:
        decoder: Name and version of the direct decoder, empty where OpenSlide reads everything.
        reasons: For each level, why OpenSlide reads it; empty where its tiles are decoded directly.
    """

    decoder: str
    reasons: tuple[str, ...]

    @property
    def direct_levels(self) -> tuple[int, ...]:
        """The levels whose tiles are decoded directly."""
        return tuple(level for level, reason in enumerate(self.reasons) if not reason)

    def __str__(self) -> str:
        by_reason: dict[str, list[str]] = {}
        for level, reason in enumerate(self.reasons):
            by_reason.setdefault(reason, []).append(str(level))
        parts = []
        for reason, levels in by_reason.items():
            which = f"level{'s' * (len(levels) > 1)} {', '.join(levels)}"
            if reason:
                parts.append(f"{which} by OpenSlide: {reason}")
            else:
                parts.append(f"{which} by {self.decoder}")
        return "; ".join(parts)


@functools.cache
def tell_once(reason: str) -> None:
    """Log that reading is slow and need not be; above what the command line keeps to itself.

    Args:
        reason: What is wrong with direct decoding; told once.
    """
    _log.error(
        "OpenSlide reads every tile, with the same result but several times slower: %s. "
        "napari-xt doctor tells more",
        reason,
    )
