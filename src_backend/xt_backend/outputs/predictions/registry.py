"""Names to formats of predictions; a further one is a module and a line here."""

from __future__ import annotations

from xt_backend.outputs.predictions.dicom_seg import DicomSeg
from xt_backend.outputs.predictions.ome_probabilities import OmeProbabilities
from xt_backend.outputs.predictions.prediction_format import PredictionFormat
from xt_backend.outputs.predictions.qupath import QuPath
from xt_backend.outputs.predictions.regions_parquet import RegionsParquet
from xt_backend.outputs.predictions.wsinfer import WSInfer

__all__ = ["PREDICTION_FORMATS"]

PREDICTION_FORMATS: dict[str, PredictionFormat] = {
    made.name: made
    for made in (QuPath(), WSInfer(), RegionsParquet(), OmeProbabilities(), DicomSeg())
}
