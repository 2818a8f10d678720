"""The slide that comes next, prepared while the one in hand comes to its end."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt_backend.config import CommonOptions

from .preparation import Prepared, prepare

if TYPE_CHECKING:
    from xt_backend.model import StainInfo

__all__ = ["Ahead"]


class Ahead:
    """Opens one slide and looks for its tissue in a thread.

    Memory: one thumbnail, its tissue and what looking for tissue takes, whatever the slide's size.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "xt-ahead")
        self._waiting: tuple[Any, Future[Prepared]] | None = None

    def begin(
        self,
        path: Path,
        model_mpp: float,
        region_px: int,
        options: CommonOptions,
        stain: StainInfo | None = None,
    ) -> None:
        """Begin to prepare a slide; one that nobody took is let go.

        Args:
            path: As of `prepare`, as all others.
            model_mpp: um/px.
            region_px: Side of a region at `model_mpp`.
            options: Of the run.
            stain: To which the slide is brought.
        """
        self.drop()
        wish = path, model_mpp, region_px, options, stain
        self._waiting = (_key(*wish), self._pool.submit(prepare, *wish))

    def take(
        self,
        path: Path,
        model_mpp: float,
        region_px: int,
        options: CommonOptions,
        stain: StainInfo | None = None,
    ) -> Prepared:
        """The slide that was begun with the same arguments, or one that is prepared now.

        One that failed when it was begun is tried again: a network share may have come back.

        Raises:
            XTError: As of `prepare`.
        """
        wish = path, model_mpp, region_px, options, stain
        if self._waiting is not None and self._waiting[0] == _key(*wish):
            (_, prepared), self._waiting = self._waiting, None
            if prepared.exception() is None:
                return prepared.result()
        self.drop()
        return prepare(*wish)

    def drop(self) -> None:
        """Close the slide that nobody took; waits for it to be ready."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting[1].cancel() and waiting[1].exception() is None:
            waiting[1].result().slide.close()


def _key(
    path: Path,
    model_mpp: float,
    region_px: int,
    options: CommonOptions,
    stain: StainInfo | None,
) -> tuple[Any, ...]:
    """All that the result depends on."""
    # A name that each run is given anew is no part of what is asked for.
    return path, model_mpp, region_px, options.model_dump(exclude={"run_id"}), stain
