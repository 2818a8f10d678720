"""What dense and detection models make besides the score map: collected, then written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.engine import Event, RegionsDecoded, RunFinished, RunPlanned
from xt_backend.keys import RunFile, RunMeta
from xt_backend.outputs import (
    SlideMask,
    mask_canvas,
    point_kinds,
    tissue_mask_px,
    write_mask,
    write_points_csv,
    write_points_geojson,
)
from xt_backend.slides import Tissue
from xt_backend.store import MaskGrid, Points, ScoreMap

__all__ = ["DenseResult", "dense_files"]


def dense_files(task: str) -> tuple[str, ...]:
    """Suffixes of the files that a model of this task has beside those of every model."""
    return {
        "dense": (RunFile.MASK,),
        "detection": (RunFile.POINTS_CSV, RunFile.POINTS_GEOJSON),
    }.get(task, ())


class DenseResult:
    """Takes the masks and points of one run from its events; nothing for other models.

    Masks go into a scratch file, which leaving the ``with`` block removes.

    Args:
        folder: Where the scratch file lies; the system's own place when None.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._grid: MaskGrid | None = None
        self._canvas: npt.NDArray[np.uint8] | None = None
        self._points: Points | None = None

    def __enter__(self) -> DenseResult:
        return self

    def __exit__(self, *error: object) -> None:
        self._canvas = None
        self._stack.close()

    def take(self, event: Event) -> None:
        """Look at an event of the run."""
        if isinstance(event, RunPlanned) and event.score_map.task == "dense":
            self._grid = MaskGrid(event.score_map.lattice)
            self._canvas = self._stack.enter_context(mask_canvas(self._grid, self._folder))
        elif isinstance(event, RunFinished):
            self._points = event.points
        elif isinstance(event, RegionsDecoded) and event.masks is not None:
            if self._grid is None or self._canvas is None:
                raise RuntimeError("masks came before their plan")
            self._grid.paste(self._canvas, event.cells, event.masks)

    def note(self, score_map: ScoreMap, tissue: Tissue) -> ScoreMap:
        """The score map with the sums that slides.csv shows.

        Args:
            score_map: Of the same run.
            tissue: Of the slide.
        """
        sums: dict[str, dict[str, int]] = {}
        if self._canvas is not None and self._grid is not None:
            sums[RunMeta.TISSUE_MASK_PX] = tissue_mask_px(
                self._canvas, self._grid, tissue, score_map.classes
            )
        if self._points is not None:
            sums[RunMeta.N_POINTS] = self._points.counts(point_kinds(score_map))
        return replace(score_map, run_meta={**score_map.run_meta, **sums}) if sums else score_map

    def drawn(self, score_map: ScoreMap) -> SlideMask | Points | None:
        """The mask or the points, as the overlay shows them; None for other models.

        Args:
            score_map: Of the same run.
        """
        if self._canvas is not None:
            return SlideMask.of(self._canvas, score_map)
        return self._points

    def write(self, path: Callable[[str], Path], score_map: ScoreMap) -> None:
        """Publish the files.

        Args:
            path: From a suffix to the file's place.
            score_map: Of the same run.

        Raises:
            OutputError: They cannot be written.
        """
        if self._canvas is not None:
            write_mask(path(RunFile.MASK), self._canvas, score_map)
        if self._points is not None:
            write_points_csv(path(RunFile.POINTS_CSV), self._points, score_map)
            write_points_geojson(path(RunFile.POINTS_GEOJSON), self._points, score_map)
