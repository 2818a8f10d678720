"""What a run tells while it works: plain data that crosses process borders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from xt_backend.errors import XTError
from xt_backend.store import Points, ScoreMap

__all__ = [
    "Event",
    "JobEvent",
    "JobFinished",
    "JobTold",
    "RegionsDecoded",
    "RegionsEncoded",
    "RegionsScored",
    "RunFailed",
    "RunFinished",
    "RunPlanned",
]


@dataclass(frozen=True)
class RunPlanned:
    """The slide is open, its regions are chosen, nothing is encoded yet.

    Attributes:
        run_id: Names the run in `Backend.cancel`.
        score_map: All rows ``skipped``, all logits NaN.
        n_regions: Regions that were selected.
        n_cached: How many of them are already in the region store.
        device: For example ``cpu`` or ``cuda:0``.
        device_reason: Why this device, in words.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        notes: What the user should know (tissue kind, store problems).
        encoder: How the region encoder computes, and why, in words.

    Example:
        >>> import xt_backend as xt
        >>> with xt.Backend() as backend:
        ...     events = list(backend.submit(xt.RunSpec(slide="slide.tiff", model="context-demo")))
        >>> planned = events[0]
        >>> planned.n_regions == len(planned.score_map), 0 <= planned.n_cached <= planned.n_regions
        (True, True)
    """

    run_id: str
    score_map: ScoreMap
    n_regions: int
    n_cached: int
    device: str
    device_reason: str
    precision: str
    notes: tuple[str, ...] = ()
    encoder: str = ""


@dataclass(frozen=True)
class RegionsScored:
    """Some more regions are encoded; the map holds the region-only prediction so far.

    Attributes:
        done: Regions with a result, cached ones and unreadable ones included.
        total: Regions that were selected.
        regions_per_s: Encoding rate since the start; 0.0 before the first batch.
        seconds_left: Estimate; None before there is a rate.
        score_map: Partial map; its `logits` are those of the region-only head.
        stage: ``encode``; ``context`` once the context encoder starts; ``decode`` once it is
            done and the pixels of a dense or detection model follow: then the map has context.

    Example:
        >>> import xt_backend as xt
        >>> with xt.Backend() as backend:
        ...     events = list(backend.submit(xt.RunSpec(slide="slide.tiff", model="context-demo")))
        >>> scored = [event for event in events if isinstance(event, xt.RegionsScored)]
        >>> scored[-1].done == scored[-1].total
        True
    """

    run_id: str
    done: int
    total: int
    regions_per_s: float
    seconds_left: float | None
    score_map: ScoreMap
    stage: Literal["encode", "context", "decode"] = "encode"


@dataclass(frozen=True)
class RegionsDecoded:
    """Some more regions of a dense or detection model are decoded to pixels.

    Nobody keeps the masks but who takes them from here; `MaskGrid.paste` puts them in place.

    Attributes:
        done: Regions decoded, unreadable ones included.
        total: Regions that are to be decoded.
        regions_per_s: Decoding rate since the start of this stage.
        seconds_left: Estimate.
        cells: (n, 2) int32 (col, row) of these regions, in the order of the score map.
        masks: (n, R/4, R/4) uint8, class index + 1, 0 where there is nothing; None for detection.
        points: Points of these regions, those on their borders perhaps twice; None for dense.

    Example:
        >>> import numpy as np
        >>> import xt_backend as xt
        >>> cells, masks = np.array([[3, 5]], np.int32), np.ones((1, 64, 64), np.uint8)
        >>> xt.RegionsDecoded("run", 1, 4, 2.0, 1.5, cells, masks).stage
        'dense'
    """

    run_id: str
    done: int
    total: int
    regions_per_s: float
    seconds_left: float
    cells: npt.NDArray[np.int32]
    masks: npt.NDArray[np.uint8] | None = None
    points: Points | None = None

    @property
    def stage(self) -> Literal["dense", "detect"]:
        """What the regions are decoded to."""
        return "detect" if self.masks is None else "dense"


@dataclass(frozen=True)
class RunFinished:
    """The run ended by itself or was cancelled.

    Attributes:
        score_map: The prediction; partial when cancelled, and region-only where that was
            before the context encoder had seen all regions.
        cancelled: True after `Backend.cancel`.
        seconds: Time by stage, see `Stages.all_told`.
        encoded_regions: How many regions went through the region encoder.
        cache: ``hit``, ``partial`` or ``miss``.
        points: All points of a detection model, each object once; None for other tasks.
        problems: What was wrong with the region store, as sentences.
        reader: Who decoded the slide's tiles, and why.
        encoder: How the region encoder computed, and why, as plain data.

    Example:
        >>> import xt_backend as xt
        >>> with xt.Backend() as backend:
        ...     events = list(backend.submit(xt.RunSpec(slide="slide.tiff", model="context-demo")))
        >>> finished = events[-1]
        >>> finished.cancelled, finished.score_map.partial, finished.score_map.logits.shape[1]
        (False, False, 4)
    """

    run_id: str
    score_map: ScoreMap
    cancelled: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    encoded_regions: int = 0
    cache: str = "miss"
    points: Points | None = None
    problems: tuple[str, ...] = ()
    reader: str = ""
    encoder: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFailed:
    """The run cannot go on; `error` says why and what to do.

    Example:
        >>> import xt_backend as xt
        >>> spec = xt.RunSpec(slide="no_slide.svs", model="context-demo")
        >>> with xt.Backend() as backend:
        ...     (failed,) = backend.submit(spec)
        >>> failed.error.cause
        'the file does not exist'
    """

    run_id: str
    error: XTError


Event: TypeAlias = RunPlanned | RegionsScored | RegionsDecoded | RunFinished | RunFailed


@dataclass(frozen=True)
class RegionsEncoded:
    """How far a slide is of which only the features are wanted.

    Attributes:
        done: Regions that have features or cannot be read.
        total: Regions that were selected.
    """

    done: int
    total: int


@dataclass(frozen=True)
class JobTold:
    """How far work is that is no run.

    Attributes:
        run_id: Names it in `Backend.cancel`.
        told: Plain data of its own.
    """

    run_id: str
    told: Any


@dataclass(frozen=True)
class JobFinished:
    """The end of such work.

    Attributes:
        run_id: Its name.
        result: Plain data of its own; None where it was cancelled.
        cancelled: True after `Backend.cancel`.
    """

    run_id: str
    result: Any
    cancelled: bool = False


JobEvent: TypeAlias = JobTold | JobFinished | RunFailed
