"""What a batch would do, how long it would take and how much space, without encoding anything."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.engine import RunFailed, RunPlanned
from xt_backend.keys import FeaturesMeta, RunMeta

from .score import Batch

__all__ = ["DryRun", "Expected", "Space", "preview"]

_REGION_BYTES = 600
"""Of all files of a slide, for each of its regions: mostly GeoJSON."""
_SLIDE_BYTES = 500_000
"""Of all files of a slide, besides: mostly the overlay."""
_STORED_BYTES = 9
"""Of a region in the region store, besides its features: cell and status."""


@dataclass(frozen=True)
class Space:
    """Space on a disk.

    Attributes:
        folder: Where.
        needed_bytes: About so many will be written.
        free_bytes: So many are free there.
    """

    folder: Path
    needed_bytes: int
    free_bytes: int

    @property
    def lacks(self) -> bool:
        """There is not enough."""
        return self.needed_bytes > self.free_bytes


@dataclass(frozen=True)
class Expected:
    """What a batch is expected to take.

    Attributes:
        n_slides: That can be worked on.
        n_regions: Of all of them.
        n_encode: Regions that are to be encoded.
        seconds: With one worker on this machine.
        regions_per_s: Rate of the region encoder; None where nothing is to be encoded.
        rate_from: Where the rate is known from.
        cache: For the features; None where none are kept.
        out: For the files of the slides; masks of dense models come on top. None without a folder.
    """

    n_slides: int
    n_regions: int
    n_encode: int
    seconds: float
    regions_per_s: float | None
    rate_from: str
    cache: Space | None
    out: Space | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        for name in ("cache", "out"):
            if values[name] is not None:
                values[name]["folder"] = str(values[name]["folder"])
        return values


@dataclass(frozen=True)
class DryRun:
    """A batch that was only looked at.

    Attributes:
        rows: One per task, in the order of the inputs: regions, how many are cached, pixel size,
            or why it would fail.
        expected: Of all of them.
    """

    rows: tuple[dict[str, Any], ...]
    expected: Expected


def preview(batch: Batch) -> DryRun:
    """Look at the slides that a batch is to do: open each, and find its tissue.

    Where no rate of the encoder is known, one batch of blank regions is encoded to measure it.
    """
    started = time.perf_counter()
    rows, feature_bytes = [], 0
    for task in sorted(batch.todo, key=lambda task: task.source.row):
        row: dict[str, Any] = {"row": task.source.row, "slide": task.name, "id": task.slide_id}
        if task.source.problem:
            rows.append({**row, "status": "failed", "reason": task.source.problem})
            continue
        event = next(batch.events(task))
        if isinstance(event, RunFailed):
            rows.append({**row, "status": "failed", "reason": str(event.error)})
        elif isinstance(event, RunPlanned):
            rows.append({**row, **_planned(event)})
            feature_bytes += (event.n_regions - event.n_cached) * _bytes_of(event)
        else:
            raise RuntimeError(f"a run began with {type(event).__name__}")
    planned = [row for row in rows if row["status"] == "planned"]
    n_regions = sum(row["n_regions"] for row in planned)
    n_encode = n_regions - sum(row["n_cached"] for row in planned)
    # The slides are opened again, which is all that a run of stored features waits for.
    seconds = time.perf_counter() - started
    rate, rate_from = batch.rate() if n_encode else (None, "")
    if rate:
        seconds += n_encode / rate
    cache = batch.options.cache_dir()
    out = None if batch.folder is None else batch.folder.path
    out_bytes = n_regions * _REGION_BYTES + len(planned) * _SLIDE_BYTES
    expected = Expected(
        n_slides=len(planned),
        n_regions=n_regions,
        n_encode=n_encode,
        seconds=seconds,
        regions_per_s=rate,
        rate_from=rate_from,
        cache=None if cache is None else _space(cache, feature_bytes),
        out=None if out is None else _space(out, out_bytes),
    )
    return DryRun(tuple(rows), expected)


def _planned(event: RunPlanned) -> dict[str, Any]:
    return {
        "status": "planned",
        "reason": "; ".join(event.notes),
        "n_regions": event.n_regions,
        "n_cached": event.n_cached,
        "slide_mpp": sum(event.score_map.slide_mpp) / 2,
        "mpp_source": event.score_map.mpp_source,
    }


def _bytes_of(event: RunPlanned) -> int:
    """What a region takes in the region store."""
    shape = event.score_map.run_meta[RunMeta.FEATURES][FeaturesMeta.SHAPE]
    return int(np.prod(shape)) * np.dtype(np.float16).itemsize + _STORED_BYTES


def _space(folder: Path, needed_bytes: int) -> Space:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return Space(folder, needed_bytes, shutil.disk_usage(there).free)
