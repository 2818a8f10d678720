"""The slide that comes next, prepared while the one in hand comes to its end."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xt_backend.config import CommonOptions

from .preparation import Prepared, prepare

if TYPE_CHECKING:
    from xt_backend.model import StainInfo

__all__ = ["Ahead", "Wish"]


class Wish(NamedTuple):
    """The arguments of `prepare`."""

    path: Path
    model_mpp: float
    region_px: int
    options: CommonOptions
    stain: StainInfo | None = None

    def is_that_of(self, other: Wish) -> bool:
        """Whether the same slide would come of both."""
        # A name that each run is given anew is no part of what is asked for.
        mine, theirs = (one.options.model_dump(exclude={"run_id"}) for one in (self, other))
        return mine == theirs and self._replace(options=other.options) == other


class Ahead:
    """Opens one slide and looks for its tissue in a thread.

    Memory: one thumbnail, its tissue and what looking for tissue takes, whatever the slide's size.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "xt-ahead")
        self._waiting: tuple[Wish, Future[Prepared]] | None = None

    def begin(self, wish: Wish) -> None:
        """Begin to prepare a slide; one that nobody took is let go."""
        self.close()
        self._waiting = (wish, self._pool.submit(prepare, *wish))

    def take(self, wish: Wish) -> Prepared:
        """The slide that was begun with the same arguments, or one that is prepared now.

        One that failed when it was begun is tried again: a network share may have come back.

        Raises:
            XTError: As of `prepare`.
        """
        if self._waiting is not None and self._waiting[0].is_that_of(wish):
            (_, prepared), self._waiting = self._waiting, None
            if prepared.exception() is None:
                return prepared.result()
        self.close()
        return prepare(*wish)

    def close(self) -> None:
        """Let go of the slide that nobody took, when it is ready; another one may be begun."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting[1].cancel() and waiting[1].exception() is None:
            waiting[1].result().slide.close()
