"""run.json: what was run, with what, and how it went."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from xt_backend.engine import Device, EncoderChoice, Stages, peak_memory_bytes
from xt_backend.keys import PRODUCT, RESEARCH_USE, SlideStatus

from .configuration import versions
from .folder import RunFolder
from .inputs import Inputs
from .task import Outcome, Task

__all__ = ["RunReport"]


class RunReport:
    """Writes run.json at the start and at the end of a batch.

    Args:
        folder: Run directory; None writes nothing.
        device: Where the region encoder runs.
        inputs: Rows, and what was passed over.
        encoder: How the region encoder computes.
        tasks: All of the batch; of those with a result, what run.json said before is kept.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        device: Device,
        inputs: Inputs,
        encoder: EncoderChoice,
        tasks: Sequence[Task],
    ) -> None:
        self._folder = folder
        self._device = device
        self._encoder = encoder.to_dict()
        self._stages = Stages()
        self._clock = time.perf_counter()
        self._inputs = inputs
        now = datetime.now(UTC).isoformat(timespec="seconds")
        before = {} if folder is None else folder.previous
        held = [] if folder is None else [t.slide_id for t in tasks if folder.holds(t.slide_id)]
        self._started = str(before.get("started", now))
        self._resumed = now if before else None
        self._problems: dict[str, list[str]] = _of(before.get("store_problems"), held)
        self._readers: dict[str, str] = _of(before.get("readers"), held)
        self._screening: dict[str, Any] = _of(before.get("screening"), held)
        # What was the usual way then may be none now.
        usual = before.get("encoder", self._encoder)
        others = _of(before.get("other_encoders"), held)
        ways = {slide_id: others.get(slide_id, usual) for slide_id in held}
        self._others = {slide_id: way for slide_id, way in ways.items() if way != self._encoder}

    def take(self, outcome: Outcome) -> None:
        """Keep who read and who encoded a slide, for how long, and problems with its store."""
        self._screening.pop(outcome.row.id, None)
        if outcome.screening:
            self._screening[outcome.row.id] = dict(outcome.screening)
        if outcome.kept:
            return
        self._stages.add(outcome.seconds)
        for known in (self._others, self._problems, self._readers):
            known.pop(outcome.row.id, None)
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
                "started": self._started,
                "resumed": self._resumed,
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
                **({"screening": self._screening} if self._screening else {}),
            }
        )


def _of(values: Any, slide_ids: Sequence[str]) -> dict[str, Any]:
    """What an earlier run.json says of some slides."""
    if not isinstance(values, dict):
        return {}
    return {slide_id: values[slide_id] for slide_id in slide_ids if slide_id in values}
