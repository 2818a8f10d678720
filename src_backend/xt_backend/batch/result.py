"""What a batch leaves in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xt_backend.keys import RunFile, SlideStatus, Stopped
from xt_backend.outputs import (
    SlideRow,
    points_frame,
    read_points_csv,
    regions_columns,
    regions_frame,
    slides_frame,
)
from xt_backend.store import Points, ScoreMap

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "count_slides"]


def count_slides(rows: Sequence[SlideRow], stopped: Mapping[int, Stopped]) -> dict[str, int]:
    """Slides that are done, failed and empty; after an interruption also the others.

    Args:
        rows: One per input.
        stopped: By row: why a slide has no result.
    """
    reached = [row for row in rows if row.row not in stopped]
    counts = {str(kind): sum(row.status == kind for row in reached) for kind in SlideStatus}
    if stopped:
        how = list(stopped.values())
        counts |= {str(kind): how.count(kind) for kind in Stopped}
    return counts


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) batch.

    Attributes:
        rows: One per input, in the order of the inputs.
        classes: Names of the model's classes.
        kinds: Names of the kinds of points; empty but for detection models.
        folder: Run directory; None when nothing was written.
        score_maps: By slide id, when there is no folder.
        found_points: By slide id, when there is no folder; detection models only.
        stopped: By row: why a slide has no result, after an interruption.
        seen_nan: Some region has no number though it was encoded.
        seconds: By stage, over all slides, and in total; see `STAGES`.
    """

    rows: tuple[SlideRow, ...]
    classes: tuple[str, ...]
    folder: Path | None
    kinds: tuple[str, ...] = ()
    score_maps: dict[str, ScoreMap] = field(default_factory=dict)
    found_points: dict[str, Points] = field(default_factory=dict)
    stopped: dict[int, Stopped] = field(default_factory=dict)
    seen_nan: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Some slides were not reached."""
        return bool(self.stopped)

    @property
    def counts(self) -> dict[str, int]:
        """Slides that are done, failed and empty; after an interruption also the others."""
        return count_slides(self.rows, self.stopped)

    @property
    def slides(self) -> pd.DataFrame:
        """One row per input: the columns of slides.csv."""
        return slides_frame(self.rows, self.classes, self.kinds)

    @property
    def regions(self) -> pd.DataFrame:
        """One row per selected region of every slide that is done.

        Slide id, box in level-0 px, status, label and probabilities. Empty for a run of
        `features`, which predicts nothing.
        """
        import pandas as pd

        frames = []
        scored = [row for row in self.rows if row.status == SlideStatus.DONE and self.classes]
        for row in scored:
            frame = regions_frame(self.score_map(row.id))
            frame.insert(0, "id", row.id)
            frames.append(frame)
        if not frames:
            return pd.DataFrame(columns=["id", *regions_columns(self.classes)])
        return pd.concat(frames, ignore_index=True)

    @property
    def points(self) -> pd.DataFrame:
        """One row per point of every slide that is done; empty but for detection models.

        Slide id and the columns of ``<id>.points.csv``.
        """
        import pandas as pd

        frames = []
        for row in self.rows if self.kinds else ():
            if row.status == SlideStatus.FAILED:
                continue
            found = self.found_points.get(row.id)
            if found is None and self.folder is not None:
                path = self.folder / f"{row.id}{RunFile.POINTS_CSV}"
                found = read_points_csv(path, self.kinds)
            if found is not None:
                frame = points_frame(found, self.score_map(row.id))
                frame.insert(0, "id", row.id)
                frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def score_map(self, slide_id: str) -> ScoreMap:
        """The score map of a slide that is done.

        Raises:
            KeyError: The slide failed or is not in this run.
        """
        if slide_id in self.score_maps:
            return self.score_maps[slide_id]
        if self.folder is None or not (self.folder / f"{slide_id}{RunFile.SCORE_MAP}").is_file():
            raise KeyError(slide_id)
        return ScoreMap.load(self.folder / f"{slide_id}{RunFile.SCORE_MAP}")

    @property
    def exit_code(self) -> int:
        """0 all done; 3 some rows failed or held NaN; 130 interrupted."""
        if self.interrupted:
            return 130
        failed = any(row.status == SlideStatus.FAILED for row in self.rows)
        return 3 if failed or self.seen_nan else 0
