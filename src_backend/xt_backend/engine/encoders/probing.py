"""Which way to encode is the fastest of those that give the same features."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import OutOfMemoryError
from xt_backend.model import RegionEncoder

from ..device import Device, is_out_of_memory
from .base import EncoderBackend, Features, Pending, Pixels
from .choice import EncoderChoice, Trial
from .make import make_backend
from .way import Way

__all__ = [
    "LEAST_AGREEMENT",
    "LEAST_GAIN",
    "MOST_ERROR",
    "Judge",
    "failure_words",
    "probe",
    "run_through",
]

_log = logging.getLogger(__name__)

MOST_ERROR = 0.05
"""Of the features, over what tells regions apart: half a hundredth of it is lost to rounding."""

LEAST_AGREEMENT = 0.98
"""Share of regions whose most probable class stays the same."""

LEAST_GAIN = 1.15
"""What is hardly faster than torch, or than a more exact way, is not worth other bytes."""

_ROUNDS = 3
_SLOW_S = 5.0
"""What takes longer for the regions of a round is timed once."""

Judge = Callable[[Features], npt.NDArray[np.float32]]
"""From features (n, k*k, D) to logits (n, C)."""


def probe(
    region_encoder: RegionEncoder,
    device: Device,
    ways: Sequence[Way],
    pixels: Pixels,
    judge: Judge | None = None,
    folder: Path | None = None,
) -> EncoderChoice:
    """Try ways to encode on some regions, and take the fastest that is faithful.

    Faithful is what gives, with the encoder's own weights, nearly the features and the classes
    that torch gives in float32.

    Args:
        region_encoder: With the weights that will be used.
        device: Where to compute.
        ways: What to try, the more exact ones first; the first of all is what is taken when no
            other is better.
        pixels: (n, R, R, 3) uint8, regions of a slide.
        judge: Gives the classes; None judges by the features alone.
        folder: Where models are kept that take long to make.
    """
    exact = Way("torch", "fp32")
    truth = run_through(make_backend(region_encoder, device, exact, None), pixels)
    trials: dict[Way, Trial] = {}
    backends: dict[Way, EncoderBackend] = {}
    best: dict[Way, float] = {}
    for way in ways:
        try:
            backend = make_backend(region_encoder, device, way, folder)
            features = run_through(backend, pixels)  # what is done only once is done here
        except Exception as error:
            trials[way] = Trial(way, problem=failure_words(error))
            _log.info("%s cannot be used", way, exc_info=True)
            continue
        trials[way] = _compare(way, truth, features, judge)
        if not trials[way].problem or way == ways[0]:
            backends[way] = backend
    for _ in range(_ROUNDS):
        for way, backend in backends.items():
            if best.get(way, 0.0) > _SLOW_S:
                continue
            started = time.perf_counter()
            run_through(backend, pixels)
            best[way] = min(best.get(way, np.inf), time.perf_counter() - started)
    for way, seconds in best.items():
        trials[way] = replace(trials[way], regions_per_s=round(len(pixels) / seconds, 2))
    return _judge(ways, trials, len(pixels))


def run_through(backend: EncoderBackend, pixels: Pixels) -> Features:
    """The features of some regions, (n, k*k, D) float16, as many batches ahead as can be."""
    waiting: list[Pending] = []
    parts: list[Features] = []
    for first in range(0, len(pixels), backend.batch):
        if len(waiting) > backend.ahead:
            parts.append(waiting.pop(0).result())
        waiting.append(backend.start(pixels[first : first + backend.batch]))
    return np.concatenate([*parts, *(one.result() for one in waiting)])


def _compare(way: Way, truth: Features, features: Features, judge: Judge | None) -> Trial:
    wanted, found = truth.astype(np.float64), features.astype(np.float64)
    if not np.isfinite(found).all():
        return Trial(way, problem="some features are not finite")
    spread = float(np.linalg.norm(wanted - wanted.mean(axis=0)))
    off = float(np.linalg.norm(found - wanted))
    error = off / spread if spread else float(off > 0)
    agreement = None
    if judge is not None:
        classes = [judge(one).argmax(axis=1) for one in (truth, features)]
        agreement = float((classes[0] == classes[1]).mean())
    problem = ""
    if error > MOST_ERROR:
        problem = f"its features are off by {error:.1%}, more than {MOST_ERROR:.0%}"
    elif agreement is not None and agreement < LEAST_AGREEMENT:
        problem = f"only {agreement:.1%} of the regions keep their class"
    return Trial(way, None, round(error, 6), agreement, problem)


def _judge(ways: Sequence[Way], trials: dict[Way, Trial], n_regions: int) -> EncoderChoice:
    usual, tried = ways[0], tuple(trials.values())
    speed = {way: one.regions_per_s or 0.0 for way, one in trials.items() if not one.problem}
    best = usual if usual in speed else next(iter(speed), None)
    others = [f"{way}: {one.problem}" for way, one in trials.items() if one.problem]
    if best is None:
        reason = "; ".join(["it is the usual one, and nothing that was tried is better", *others])
        return EncoderChoice(usual, reason, tried, n_regions)
    for way in speed:
        if speed[way] > LEAST_GAIN * speed[best]:
            best = way
    if best == usual:
        reason = "; ".join(["no other that was tried is faster and as faithful", *others])
        return EncoderChoice(usual, reason, tried, n_regions)
    gain = speed[best] / (trials[usual].regions_per_s or speed[best])
    kept = trials[best].agreement
    same = "" if kept is None else f", {kept:.1%} of the regions keep their class"
    reason = (
        f"{gain:.1f} times as fast as {usual} on {n_regions} regions of a slide; "
        f"features off by {trials[best].error:.2%}{same}"
    )
    return EncoderChoice(best, reason, tried, n_regions)


def failure_words(error: Exception) -> str:
    """Why a backend cannot be used, for run.json: without its text, which may name folders."""
    if isinstance(error, OutOfMemoryError) or is_out_of_memory(error):
        return "it does not fit into the memory"
    if isinstance(error, ImportError):
        return "it is not installed" if isinstance(error, ModuleNotFoundError) else "it is broken"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return f"it failed with {type(error).__name__}, of which the log says more"
