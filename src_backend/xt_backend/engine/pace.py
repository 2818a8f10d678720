"""How quick a run would be, tried on a few of its own regions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .events import JobEvent, JobFinished
from .spec import RunSpec

if TYPE_CHECKING:
    from .loaded import Loaded

__all__ = ["PaceJob", "measure_pace"]

_TRIED = {"cpu": 16}
_TRIED_ELSEWHERE = 128
"""Regions that are read and encoded; a graphics card is quick only with many at once."""


@dataclass(frozen=True)
class PaceJob:
    """A trial as work for `Backend`; its result is regions per second, None where it is unknown.

    The model that it loads is the one that the next run finds loaded.

    Attributes:
        spec: The run.
        run_id: Names the trial in events and in `Backend.cancel`.
    """

    spec: RunSpec
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def events_with(
        self, loaded: Loaded, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[JobEvent]:
        """Try it.

        Args:
            loaded: What the process that does runs keeps in memory.
            cancelled: Asked between two steps.
        """
        rate = measure_pace(loaded, self.spec, cancelled)
        stopped = cancelled()
        yield JobFinished(self.run_id, None if stopped else rate, cancelled=stopped)


def measure_pace(
    loaded: Loaded, spec: RunSpec, cancelled: Callable[[], bool] = lambda: False
) -> float | None:
    """Read and encode a few regions from all over the selection, as a run would.

    Reading and encoding go on beside each other in a run, so the slower of the two counts. Where
    the way to encode was measured on this machine before, that number is taken and no model is
    loaded. Nothing is stored.

    Args:
        loaded: Models in memory.
        spec: The run.
        cancelled: Asked between two steps.

    Returns:
        Regions per second; None where none can be read, or where it was cancelled.

    Raises:
        XTError: The run would fail for this reason.
    """
    from xt_backend.model import find_model, read_card

    from .device import choose_device
    from .encoders import known_choice, usual_way
    from .encoding import sample_regions
    from .preparation import prepare

    device = choose_device(spec.device, spec.precision)
    card = read_card(find_model(spec.model))
    what = {"model": card.state_sha256}
    choice = known_choice(what, device, spec.encoder_backend, spec.precision)
    prepared = prepare(spec.slide, card.mpp(spec.model_mpp), card.scored_px, spec, card.stain)
    with prepared.slide:
        if cancelled():
            return None
        started = time.perf_counter()
        wanted = _TRIED.get(device.kind, _TRIED_ELSEWHERE)
        pixels = sample_regions(prepared, wanted, spec.workers)
        read = len(pixels) / (time.perf_counter() - started)
    if not len(pixels) or cancelled():
        return None
    trial = None if choice is None else choice.trial
    if trial is not None and trial.regions_per_s:
        return min(read, trial.regions_per_s)
    model = loaded.model(spec.model, device, spec.offline or None)
    if cancelled():
        return None
    way = usual_way(device) if choice is None else choice.way
    encoder = loaded.take_encoder(model, device, way, spec)
    encoder.encode(pixels if device.kind != "cpu" else pixels[:1])  # the first call prepares
    if cancelled():
        loaded.give_back(encoder)
        return None
    started = time.perf_counter()
    encoder.encode(pixels)
    encoded = len(pixels) / (time.perf_counter() - started)
    loaded.give_back(encoder)
    return min(read, encoded)
