"""What became of one slide of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xt_backend.keys import Encoding, SlideStatus, Stopped
from xt_backend.outputs import SlideRow
from xt_backend.store import Points, ScoreMap

__all__ = ["Interrupted", "Outcome"]


class Interrupted(Exception):
    """The user or the system asked to stop; not an error of the run.

    Args:
        how: What that means for the slide.
    """

    def __init__(self, how: Stopped = Stopped.INTERRUPTED) -> None:
        super().__init__(how)
        self.how = how


@dataclass(frozen=True)
class Outcome:
    """How a task went.

    Attributes:
        row: For slides.csv.
        score_map: The result, where there is one.
        seen_nan: Some region has no number though it was encoded.
        problems: What was wrong with the region store, as sentences.
        points: Of a detection model.
        reader: Who decoded the slide's tiles, and why; empty where none were read.
        encoder: How the region encoder computed, as plain data; empty where it had nothing to do.
        seconds: By stage, see `STAGES`.
        screening: What was left out, see `ScreeningMeta`; empty where nothing was screened.
        configuration: Digest of the slide's own configuration; empty where it failed.
        identity: Of the slide's content, where no file of the result tells it.
        files: sha256 of the files of the result, by place below the run directory, where they hold
            no digest of their own.
        kept: An earlier call made it.
    """

    row: SlideRow
    score_map: ScoreMap | None = None
    seen_nan: bool = False
    problems: tuple[str, ...] = ()
    points: Points | None = None
    reader: str = ""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    screening: Mapping[str, Any] = field(default_factory=dict)
    configuration: str = ""
    identity: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False

    @property
    def failed(self) -> bool:
        """There is no result."""
        return self.row.status == SlideStatus.FAILED

    def light(self) -> Outcome:
        """Without the map and points, which are in their files.

        Memory must not grow with the batch, nor should they travel between processes.
        """
        return replace(self, score_map=None, points=None)

    def earlier(self, row: int, slide: str) -> Outcome:
        """As a later call takes it over, which encoded nothing and took no time.

        Args:
            row: Place of the slide among the inputs now.
            slide: Its file name now.
        """
        told = replace(self.row, row=row, slide=slide, encoded_regions=0, cache=str(Encoding.HIT))
        return replace(self, row=told, seconds={}, kept=True)
