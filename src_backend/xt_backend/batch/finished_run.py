"""A run directory that is only read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from xt_backend.errors import InputNotFoundError, UsageError, XTError
from xt_backend.keys import RunFile, RunH5
from xt_backend.outputs import (
    SlideMask,
    SlideRow,
    point_kinds,
    read_json,
    read_mask,
    read_points_csv,
    read_slides_csv,
)
from xt_backend.slides import Thumbnail, open_slide
from xt_backend.store import Points, ScoreMap

__all__ = ["FinishedRun"]

_log = logging.getLogger(__name__)


class FinishedRun:
    """What `score` left in a folder.

    Args:
        folder: Run directory.

    Attributes:
        rows: Of slides.csv.
        run: Content of run.json.

    Raises:
        InputNotFoundError: There is no such folder.
        UsageError: It holds no run of `score`.
        StoreError: slides.csv, run.json or local.json is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputNotFoundError(
                f"There is no folder {folder}", "Name a folder that score wrote"
            )
        table, run_json = folder / RunFile.SLIDES_CSV, folder / RunFile.RUN_JSON
        if not table.is_file() or not run_json.is_file():
            raise UsageError(f"{folder} holds no finished run", "Name a folder that score wrote")
        self._folder = folder
        self.rows: list[SlideRow] = read_slides_csv(table)[0]
        self.run: dict[str, Any] = read_json(run_json)
        if self.run.get("configuration", {}).get("command") == "features":
            raise UsageError(
                f"{folder} was written by `features`, which predicts nothing",
                "Name a folder that score wrote",
            )
        local = folder / RunFile.LOCAL_JSON
        slides = read_json(local).get("slides") if local.is_file() else None
        self._slides: dict[str, str] = slides if isinstance(slides, dict) else {}

    def score_map(self, row: SlideRow) -> ScoreMap:
        """The result of a slide.

        Raises:
            StoreError: It is damaged or not there.
        """
        return ScoreMap.load(self._file(row, RunFile.SCORE_MAP))

    def mask(self, row: SlideRow) -> SlideMask:
        """The mask of a slide; dense models only.

        Raises:
            StoreError: It is damaged or not there.
        """
        return read_mask(self._file(row, RunFile.MASK))

    def points(self, row: SlideRow, score_map: ScoreMap) -> Points:
        """The points on a slide; detection models only.

        Raises:
            StoreError: They are damaged or not there.
        """
        return read_points_csv(self._file(row, RunFile.POINTS_CSV), point_kinds(score_map))

    def thumbnail(self, row: SlideRow, score_map: ScoreMap) -> Thumbnail | None:
        """The slide, small, where it still lies where it was scored; else None."""
        if row.id not in self._slides:
            return None
        try:
            with open_slide(Path(self._slides[row.id])) as slide:
                if slide.identity() != score_map.run_meta.get(RunH5.META_SLIDE_IDENTITY):
                    return None
                return slide.thumbnail()
        except (XTError, OSError) as error:
            _log.info("no picture of %s", row.id, exc_info=error)
            return None

    def _file(self, row: SlideRow, suffix: str) -> Path:
        return self._folder / f"{row.id}{suffix}"
