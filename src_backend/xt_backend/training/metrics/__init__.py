"""Numbers that say how good predictions are, with bootstrap intervals."""

from .calibration import Reliability, calibration_error, reliability
from .confusion import (
    FAILED,
    balanced_accuracy,
    confusion_matrix,
    f1_scores,
    macro_f1,
    quadratic_kappa,
)
from .intervals import MIN_SLIDES_TO_RESAMPLE, Interval, bootstrap, intervals
from .measure import Metrics, measure
from .ranking import auroc

__all__ = [
    "FAILED",
    "MIN_SLIDES_TO_RESAMPLE",
    "Interval",
    "Metrics",
    "Reliability",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "calibration_error",
    "confusion_matrix",
    "f1_scores",
    "intervals",
    "macro_f1",
    "measure",
    "quadratic_kappa",
    "reliability",
]
