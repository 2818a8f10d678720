"""How slides of strangers are kept away from the process of a batch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Isolation"]


@dataclass(frozen=True)
class Isolation:
    """Slides are opened by processes that may die or hang, never by the one of the batch.

    Attributes:
        give_up_s: A slide has failed when its process told of no progress for so long, s. Far more
            than anything takes that comes to an end, a slow disk and a model's download too.
    """

    give_up_s: float = 7200.0
