"""run.json: what was run, with what, and how it went."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from xt_backend.engine import Device, EncoderChoice, Stages, peak_memory_bytes
from xt_backend.keys import PRODUCT, RESEARCH_USE, SlideStatus

from .configuration import versions
from .folder import RunFolder
from .inputs import Inputs
from .task import Outcome

__all__ = ["RunReport"]


class RunReport:
    """Writes run.json at the start and at the end of a batch.

    Args:
        folder: Run directory; None writes nothing.
        device: Where the region encoder runs.
        inputs: Rows, and what was passed over.
        encoder: How the region encoder computes.
    """

    def __init__(
        self, folder: RunFolder | None, device: Device, inputs: Inputs, encoder: EncoderChoice
    ) -> None:
        self._folder = folder
        self._device = device
        self._encoder = encoder.to_dict()
        self._others: dict[str, dict[str, Any]] = {}
        self._stages = Stages()
        self._clock = time.perf_counter()
        self._inputs = inputs
        self._started = datetime.now(UTC)
        self._problems: dict[str, list[str]] = {}
        self._readers: dict[str, str] = {}

    def take(self, outcome: Outcome) -> None:
        """Keep who read and who encoded a slide, for how long, and problems with its store."""
        self._stages.add(outcome.seconds)
        if outcome.encoder and outcome.encoder != self._encoder:
            self._others[outcome.row.id] = dict(outcome.encoder)
        if outcome.problems:
            self._problems[outcome.row.id] = list(outcome.problems)
        if outcome.reader:
            self._readers[outcome.row.id] = outcome.reader

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, over all slides, and in total since the start."""
        total = time.perf_counter() - self._clock
        return {**self._stages.to_dict(), "total": total}

    def write(self, state: str, counts: Mapping[str, int]) -> None:
        """Publish it.

        Args:
            state: ``running``, ``finished`` or ``interrupted``.
            counts: Slides by what became of them; empty before the end.
        """
        if self._folder is None:
            return
        self._folder.write_run(
            {
                "product": PRODUCT,
                "notice": RESEARCH_USE,
                "state": state,
                "started": self._started.isoformat(timespec="seconds"),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": versions(),
                "device": {"name": self._device.name, "reason": self._device.reason},
                "encoder": self._encoder,
                "other_encoders": self._others,
                "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
                "peak_memory_bytes": peak_memory_bytes(),
                "slides": {str(status): 0 for status in SlideStatus} | dict(counts),
                "passed_over": self._inputs.passed_over_values(),
                "store_problems": self._problems,
                "readers": self._readers,
            }
        )
