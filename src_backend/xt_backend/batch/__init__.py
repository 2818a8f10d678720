"""Many slides: plan, run each, keep the table."""

from .diff import RunsDiff, diff_runs
from .dry import DryRun, preview
from .export import export_run
from .feature_job import FeatureJob
from .features import FeatureBatch, features
from .inputs import InputRow, Inputs, read_inputs
from .job import Executor, Job, Told, Watch, Worker, one_after_another
from .loop import Results
from .outcome import Interrupted, Outcome
from .plan import Task, plan
from .repeat import read_repeat
from .result import Run
from .score import Batch, score
from .score_job import ScoreJob
from .summary import summarise
from .task import run_task
from .verify import Verified, verify_run

__all__ = [
    "Batch",
    "DryRun",
    "Executor",
    "FeatureBatch",
    "FeatureJob",
    "InputRow",
    "Inputs",
    "Interrupted",
    "Job",
    "Outcome",
    "Results",
    "Run",
    "RunsDiff",
    "ScoreJob",
    "Task",
    "Told",
    "Verified",
    "Watch",
    "Worker",
    "diff_runs",
    "export_run",
    "features",
    "one_after_another",
    "plan",
    "preview",
    "read_inputs",
    "read_repeat",
    "run_task",
    "score",
    "summarise",
    "verify_run",
]
