"""Many slides: plan, run each, keep the table."""

from .dry import dry_run_rows
from .export import export_run
from .features import FeatureBatch, features
from .inputs import InputRow, Inputs, read_inputs
from .result import Run
from .score import Batch, score
from .task import Interrupted, Outcome, Task

__all__ = [
    "Batch",
    "FeatureBatch",
    "InputRow",
    "Inputs",
    "Interrupted",
    "Outcome",
    "Run",
    "Task",
    "dry_run_rows",
    "export_run",
    "features",
    "read_inputs",
    "score",
]
