"""Format ``geojson``: tiles or outlines for QuPath."""

from __future__ import annotations

from pathlib import Path

from xt_backend.keys import RunFile
from xt_backend.outputs.geojson import write_geojson
from xt_backend.outputs.outlines import write_outlines
from xt_backend.outputs.predictions.prediction_format import PredictionFormat, PredictionOptions
from xt_backend.store.score_map import ScoreMap

__all__ = ["QuPath"]


class QuPath(PredictionFormat):
    """``<id>.geojson``, or ``<id>.outlines.geojson`` when merged; ``.gz`` when compressed."""

    name = "geojson"
    can_merge = True
    can_compress = True

    def file(self, slide_id: str, options: PredictionOptions) -> str:
        """See `PredictionFormat`."""
        if options.merged:
            return slide_id + (RunFile.OUTLINES_GZ if options.compressed else RunFile.OUTLINES)
        return slide_id + (RunFile.GEOJSON_GZ if options.compressed else RunFile.GEOJSON)

    def write(
        self, path: Path, score_map: ScoreMap, options: PredictionOptions, slide: Path | None
    ) -> None:
        """See `PredictionFormat`."""
        (write_outlines if options.merged else write_geojson)(path, score_map)
