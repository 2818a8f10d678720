"""Training on annotated slides, and measuring how good a model is.

Names are loaded when first used: specs and events need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .evaluation import EvaluationReport, evaluate
    from .events import Progress, ProgressCallback
    from .loop import TrainResult, train
    from .metrics import Interval, Metrics
    from .pixel_metrics import MaskMetrics, PointMetrics
    from .spec import EvaluateSpec, TrainSpec

_HOMES = {
    "EvaluateSpec": "spec",
    "EvaluationReport": "evaluation",
    "Interval": "metrics",
    "MaskMetrics": "pixel_metrics",
    "Metrics": "metrics",
    "PointMetrics": "pixel_metrics",
    "Progress": "events",
    "ProgressCallback": "events",
    "TrainResult": "loop",
    "TrainSpec": "spec",
    "evaluate": "evaluation",
    "train": "loop",
}

__all__ = [
    "EvaluateSpec",
    "EvaluationReport",
    "Interval",
    "MaskMetrics",
    "Metrics",
    "PointMetrics",
    "Progress",
    "ProgressCallback",
    "TrainResult",
    "TrainSpec",
    "evaluate",
    "train",
]


__getattr__ = lazy.attributes(__name__, _HOMES)
