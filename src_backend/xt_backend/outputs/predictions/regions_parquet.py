"""Format ``parquet``: the table of regions."""

from __future__ import annotations

from pathlib import Path

from xt_backend.keys import RunFile
from xt_backend.outputs.parquet import check_parquet, write_regions_parquet
from xt_backend.outputs.predictions.prediction_format import PredictionFormat, PredictionOptions
from xt_backend.store.score_map import ScoreMap

__all__ = ["RegionsParquet"]


class RegionsParquet(PredictionFormat):
    """``<id>.regions.parquet``."""

    name = "parquet"

    def check(self, options: PredictionOptions) -> None:
        """See `PredictionFormat`."""
        super().check(options)
        check_parquet()

    def file(self, slide_id: str, options: PredictionOptions) -> str:
        """See `PredictionFormat`."""
        return slide_id + RunFile.PARQUET

    def write(
        self, path: Path, score_map: ScoreMap, options: PredictionOptions, slide: Path | None
    ) -> None:
        """See `PredictionFormat`."""
        write_regions_parquet(path, score_map)
