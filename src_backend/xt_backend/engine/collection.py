"""All features of a slide at once, for those who want the features themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.config import CommonOptions
from xt_backend.errors import TooManyFailedRegionsError
from xt_backend.keys import RegionStatus
from xt_backend.wording import counted

from .encoder import BatchEncoder
from .extraction import extract, open_store
from .preparation import Prepared
from .stages import Stages

__all__ = ["Collected", "check_failures", "collect"]


@dataclass(frozen=True)
class Collected:
    """Features of a slide's selected regions.

    Attributes:
        features: (n, k*k, D) float16; zeros where the status is not scored.
        status: (n,) uint8 of `RegionStatus`.
        complete: False when it was cancelled before the end.
        seconds: By stage, see `STAGES`; without the encoder's.
        reused: Regions that came out of the region store.
        problems: What was wrong with the region store, as sentences.
    """

    features: npt.NDArray[np.float16]
    status: npt.NDArray[np.uint8]
    complete: bool
    seconds: dict[str, float]
    reused: int
    problems: tuple[str, ...]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """(n,) bool: the region has features."""
        return np.isin(self.status, (RegionStatus.OK, RegionStatus.EDGE))

    @property
    def n_nan(self) -> int:
        """Number of regions that were encoded but hold what is no finite number."""
        return int((self.scored & ~np.isfinite(self.features).all(axis=(1, 2))).sum())


def collect(
    prepared: Prepared,
    encoder: BatchEncoder,
    options: CommonOptions,
    on_regions: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Collected:
    """Encode, or take from the region store, every selected region.

    Args:
        prepared: An open slide with its regions.
        encoder: On its device.
        options: Threads, batch size, cache and the share of regions that may fail.
        on_regions: Told regions done and regions in all.
        cancelled: Asked after every batch.

    Raises:
        TooManyFailedRegionsError: More regions are unreadable than the options allow.
    """
    n = len(prepared.cells)
    features = np.zeros((n, *encoder.token_shape), np.float16)
    status = np.full(n, RegionStatus.SKIPPED, np.uint8)
    store = open_store(prepared, encoder, options.cache_dir())
    stages = Stages()
    done = reused = 0
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
    ):
        good = part.status != RegionStatus.READ_ERROR
        status[part.rows] = part.status
        if good.any():
            features[part.rows[good]] = part.features[good]
        done += len(part.rows)
        reused += len(part.rows) if part.cached else 0
        on_regions(done, n)
    complete = done == n
    if complete:
        check_failures(status, prepared.slide.info.name, options.max_failed_fraction)
    problems = tuple(store.problems) if store is not None else ()
    return Collected(features, status, complete, stages.to_dict(), reused, problems)


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
