"""What a batch leaves in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xt_backend.errors import UsageError
from xt_backend.keys import RunFile, SlideStatus, Stopped
from xt_backend.outputs import (
    PREDICTION_FORMATS,
    PredictionOptions,
    SlideRow,
    points_frame,
    read_points_csv,
    regions_columns,
    regions_frame,
    slides_frame,
)
from xt_backend.store import Points, ScoreMap, make_folder

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
        seconds: By stage, over all slides; see `Stages.all_told`.
        passed_over: Files that are no slides: `file` and `reason`.

    Example:
        >>> import xt_backend as xt
        >>> run = xt.score("slide.tiff", model="context-demo")
        >>> run.classes
        ('normal', 'reactive', 'nest', 'other')
        >>> shares = run.slides[["fraction_" + name for name in run.classes]]
        >>> round(float(shares.sum(axis=1)[0]), 3)
        1.0
        >>> [path.name for path in run.to_geojson("qupath", merged=True)]
        ['slide.outlines.geojson']
        >>> run.score_map("slide").probabilities.shape == (len(run.regions), 4)
        True
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
    passed_over: tuple[Mapping[str, str], ...] = ()

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
        """One row per input, in the order of the inputs: the columns of slides.csv.

        ``slide`` (file name), ``id``, ``status`` (done, failed, empty), ``reason``, ``slide_mpp``
        (um/px), ``width_px`` and ``height_px`` (of level 0), ``n_regions``, ``fraction_<class>`` or
        ``predicted`` and ``prob_<class>`` (0 to 1), seconds; None or NaN where there is no value.
        """
        return slides_frame(self.rows, self.classes, self.kinds)

    @property
    def regions(self) -> pd.DataFrame:
        """One row per selected region of every slide that is done.

        ``id`` of the slide; ``minx``, ``miny``, ``width``, ``height`` (integers, level-0 px in
        OpenSlide's frame: the slide's bounds are not subtracted); ``status`` (ok, edge,
        read_error, ...); ``label`` (empty where there is no score); ``prob_<class>`` (float32, 0
        to 1, NaN where there is no score); ``quality``. Empty for a run of `features`, which
        predicts nothing.
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

    def to_geojson(
        self, out: Path | str | None = None, *, merged: bool = False, compressed: bool = False
    ) -> tuple[Path, ...]:
        """Write the regions for QuPath, a file a slide that is done or empty.

        Coordinates are level-0 px with the slide's bounds subtracted, as QuPath counts.

        Args:
            out: Folder, made when it is not there; None for the run's own.
            merged: One outline for all regions of a class that touch, instead of tiles.
            compressed: Packed with gzip, ``.geojson.gz``.

        Returns:
            The files.

        Raises:
            UsageError: There is neither `out` nor a folder of the run, or nothing was predicted.
            OutputError: They cannot be written.
        """
        folder = self.folder if out is None else Path(out)
        if folder is None or not self.classes:
            what = "run has no folder" if self.classes else "run predicts nothing"
            raise UsageError(f"This {what}", "Name a folder, of a run of `score`")
        options = PredictionOptions(merged, compressed)
        made = PREDICTION_FORMATS["geojson"]
        make_folder(folder)
        written = []
        for row in self.rows:
            if row.status != SlideStatus.FAILED:
                written.append(folder / made.file(row.id, options))
                made.write(written[-1], self.score_map(row.id), options, None)
        return tuple(written)

    @property
    def exit_code(self) -> int:
        """0 all done; 3 some rows failed or held NaN; 130 interrupted."""
        if self.interrupted:
            return 130
        failed = any(row.status == SlideStatus.FAILED for row in self.rows)
        return 3 if failed or self.seen_nan else 0
