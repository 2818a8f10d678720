"""run.json: what was run, with what, and how it went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from xt_backend.engine import PARTS, Device, EncoderChoice, Stages, peak_memory_bytes
from xt_backend.keys import PRODUCT, RESEARCH_USE, SlideStatus

from .configuration import versions
from .folder import RunFolder
from .inputs import Inputs
from .outcome import Outcome

__all__ = ["RunReport", "facts_of"]


def facts_of(
    device: Device, inputs: Inputs, encoder: EncoderChoice, previous: Mapping[str, Any]
) -> dict[str, Any]:
    """What run.json says of a batch from its start.

    Args:
        device: Where the region encoder runs.
        inputs: Rows, and what was passed over.
        encoder: How the region encoder computes.
        previous: What run.json said before; empty where there was none.
    """
    now = _now()
    return {
        "started": str(previous.get("started", now)),
        "resumed": now if previous else None,
        "versions": versions(),
        "device": {"name": device.name, "reason": device.reason},
        "encoder": encoder.to_dict(),
        "passed_over": inputs.passed_over_values(),
    }


class RunReport:
    """Gathers what became of the slides, and writes run.json.

    Args:
        folder: Run directory; None writes nothing.
        facts: Of `facts_of`.
        stages: Where the time of the batch goes, from its start.
        live: This process works on the batch; else it only puts together what others did.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        facts: Mapping[str, Any],
        stages: Stages,
        *,
        live: bool = True,
    ) -> None:
        self._live = live
        self._folder = folder
        self._facts = facts
        self.stages = stages
        self._problems: dict[str, list[str]] = {}
        self._readers: dict[str, str] = {}
        self._screening: dict[str, Any] = {}
        self._others: dict[str, Any] = {}

    def take(self, outcome: Outcome) -> None:
        """Keep who read and who encoded a slide, for how long, and problems with its store."""
        self.stages.add(outcome.seconds)
        slide_id, usual = outcome.row.id, self._facts["encoder"]
        _keep(self._others, slide_id, {} if outcome.encoder == usual else dict(outcome.encoder))
        _keep(self._problems, slide_id, list(outcome.problems))
        _keep(self._readers, slide_id, outcome.reader)
        _keep(self._screening, slide_id, dict(outcome.screening))

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, over all slides; see `Stages.all_told`.

        Of a batch that is over, those of its slides alone.
        """
        if self._live:
            return self.stages.all_told()
        seconds = self.stages.to_dict()
        return {**seconds, "other": 0.0, "total": sum(seconds[name] for name in PARTS)}

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
                **{name: self._facts.get(name) for name in ("started", "resumed")},
                "ended": _now(),
                **{name: self._facts.get(name) for name in ("versions", "device", "encoder")},
                "other_encoders": _sorted(self._others),
                "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
                "peak_memory_bytes": peak_memory_bytes() if self._live else None,
                "slides": {str(status): 0 for status in SlideStatus} | dict(counts),
                "passed_over": self._facts.get("passed_over"),
                "store_problems": _sorted(self._problems),
                "readers": _sorted(self._readers),
                **({"screening": _sorted(self._screening)} if self._screening else {}),
            }
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _keep(known: dict[str, Any], slide_id: str, value: Any) -> None:
    """Replace what is known of a slide; nothing is kept of one of which there is nothing to say."""
    known.pop(slide_id, None)
    if value:
        known[slide_id] = value


def _sorted(known: Mapping[str, Any]) -> dict[str, Any]:
    """By slide: slides come to their ends in any order."""
    return dict(sorted(known.items()))
