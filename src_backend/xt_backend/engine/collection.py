"""All features of a slide, for those who want the features themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xt_backend.config import CommonOptions
from xt_backend.errors import TooManyFailedRegionsError
from xt_backend.keys import RegionStatus
from xt_backend.wording import counted

from .encoder import BatchEncoder
from .extraction import extract, open_store
from .inspection import Inspection
from .preparation import Prepared
from .stages import Stages

__all__ = ["Collected", "check_failures", "collect", "features_shape"]


@dataclass(frozen=True)
class Collected:
    """What became of a slide's selected regions.

    Attributes:
        status: (n,) uint8 of `RegionStatus`.
        n_nan: Number of regions that were encoded but hold what is no finite number.
        complete: False when it was cancelled before the end.
        seconds: By stage, see `STAGES`.
        reused: Regions that came out of the region store.
        problems: What was wrong with the region store, as sentences.
    """

    status: npt.NDArray[np.uint8]
    n_nan: int
    complete: bool
    seconds: dict[str, float]
    reused: int
    problems: tuple[str, ...]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """(n,) bool: the region has features."""
        return np.isin(self.status, (RegionStatus.OK, RegionStatus.EDGE))


class Target(Protocol):
    """Takes the features of regions by their places: an array, or a file."""

    def __setitem__(self, rows: npt.NDArray[np.int64], values: Any, /) -> None:
        """Put (m, k*k, D) float16 into some rows."""


def features_shape(prepared: Prepared, encoder: BatchEncoder) -> tuple[int, int, int]:
    """(n, k*k, D) of a slide's features."""
    return (len(prepared.cells), *encoder.token_shape)


def collect(
    prepared: Prepared,
    encoder: BatchEncoder,
    options: CommonOptions,
    into: Target,
    on_regions: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Collected:
    """Encode, or take from the region store, every selected region.

    Args:
        prepared: An open slide with its regions.
        encoder: On its device.
        options: Threads, batch size, cache and the share of regions that may fail.
        into: (n, k*k, D) of zeros, see `features_shape`: takes the features; it keeps its zeros
            where the status is not scored.
        on_regions: Told regions done and regions in all.
        cancelled: Asked after every batch.

    Raises:
        TooManyFailedRegionsError: More regions are unreadable than the options allow.
        SlideChangedError: The slide is not the one any more that was opened.
    """
    n = len(prepared.cells)
    status = np.full(n, RegionStatus.SKIPPED, np.uint8)
    stages = Stages()
    folder = options.cache_dir()
    inspection = None
    with stages.timed("open"):
        store = open_store(prepared, encoder, folder)
        if folder is not None:
            # Kept for runs that predict, which would read all regions again to measure them.
            inspection = Inspection(prepared, folder, options.workers, reads=False)
    done = reused = n_nan = 0
    for part in extract(
        prepared.slide,
        prepared.lattice,
        prepared.cells,
        encoder,
        store,
        workers=options.workers,
        batch_size=options.batch_size,
        cancelled=cancelled,
        stages=stages,
        normalise=prepared.normaliser,
        inspection=inspection,
    ):
        good = part.status != RegionStatus.READ_ERROR
        status[part.rows] = part.status
        if good.any():
            found = part.features[good]
            n_nan += int((~np.isfinite(found).all(axis=(1, 2))).sum())
            into[part.rows[good]] = found
        done += len(part.rows)
        reused += len(part.rows) if part.cached else 0
        on_regions(done, n)
    complete = done == n
    if complete:
        check_failures(status, prepared.slide.info.name, options.max_failed_fraction)
        prepared.slide.check_unchanged()
    problems = (
        *(() if store is None else store.problems),
        *(() if inspection is None else inspection.problems),
    )
    return Collected(status, n_nan, complete, stages.to_dict(), reused, problems)


def check_failures(status: npt.NDArray[np.uint8], name: str, max_fraction: float) -> None:
    """Refuse a slide of which too much is unreadable.

    Args:
        status: (n,) uint8 of `RegionStatus`.
        name: The slide's file name.
        max_fraction: Share of unreadable regions that is still allowed.

    Raises:
        TooManyFailedRegionsError: There are more.
    """
    n_failed = int((status == RegionStatus.READ_ERROR).sum())
    n = int((status != RegionStatus.SCREENED_OUT).sum())
    if n and n_failed / n > max_fraction:
        raise TooManyFailedRegionsError(
            f"{n_failed:,} of {counted(n, 'region')} of {name} could not be read",
            "Get the slide again, or raise --max-failed-fraction",
        )
