"""Predictions in the formats of the tools that read them."""

from __future__ import annotations

from xt_backend.outputs.predictions.prediction_format import PredictionFormat, PredictionOptions
from xt_backend.outputs.predictions.registry import PREDICTION_FORMATS

__all__ = ["PREDICTION_FORMATS", "PredictionFormat", "PredictionOptions"]
