"""The slides of a batch as an array of Slurm jobs, submitted with submitit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt_backend.config import EncodingOptions
from xt_backend.engine import Device
from xt_backend.errors import BackendDiedError, DeviceError, EngineError, UsageError
from xt_backend.keys import Stopped

from ..configuration import versions
from ..job import Executor, Job, Watch
from ..outcome import Outcome
from ..plan import Task
from .elsewhere import device_elsewhere
from .shard import Shard, done_now, shares_of
from .working import anywhere, anywhere_task

if TYPE_CHECKING:
    import submitit

__all__ = ["SlurmEngine"]

POLL_S = 2.0
_SUFFIX = ".slurm"
_SHARES = 8
_MINUTES = 240
_REQUEUES = 1000
"""A share that runs out of its time goes on in another job; it never begins anew."""

_AGAIN = "Run the same command again to go on; regions that were stored are not encoded again"


@dataclass(frozen=True)
class _Running:
    """A job with what is left of its share."""

    job: submitit.Job[None]
    left: list[Task]


class SlurmEngine:
    """An array of jobs, each with a model and a share of the slides.

    Args:
        parameters: ``KEY=VALUE`` of submitit or Slurm; ``cluster=local`` runs the jobs on this
            machine.
        processes: Jobs; 8 when None.
        options: Of the batch.

    Raises:
        UsageError: submitit is not installed, or a parameter is no ``KEY=VALUE``.
        DeviceError: There is no Slurm here.
    """

    def __init__(
        self, parameters: Sequence[str], processes: int | None, options: EncodingOptions
    ) -> None:
        if find_spec("submitit") is None:
            raise UsageError(
                "submitit is not installed", 'Install it with pip install "napari-xt[slurm]"'
            )
        self._parameters = _parsed(parameters)
        self._cluster = str(self._parameters.pop("cluster", "slurm"))
        if self._cluster == "slurm" and shutil.which("srun") is None:
            raise DeviceError(
                "There is no Slurm on this machine: srun is not found",
                "Start the batch on a login node of the cluster",
            )
        self._n_jobs = processes or _SHARES
        named = any("gpu" in f"{key}={value}" for key, value in self._parameters.items())
        self._on_gpus = options.device != "cpu" and (named or options.device == "cuda")
        self.device = device_elsewhere(options, self._on_gpus, "the jobs of Slurm")
        self._running: list[_Running] = []

    def executor(self, device: Device) -> Executor | None:
        """See `BatchEngine.executor`."""
        del device
        return self

    def __call__(
        self, job: Job, tasks: Sequence[Task], watch: Watch, cancelled: Callable[[], bool]
    ) -> Iterator[tuple[Task, Outcome | Stopped]]:
        """See `Executor`; no events come from the jobs."""
        del watch
        placed = anywhere(job)
        if placed.folder is None:
            raise UsageError("Slurm's jobs write into a folder", "Name one with --out")
        todo = []
        for task in tasks:
            # The jobs leave no word of what was done before.
            if (found := job.finished(task)) is None:
                todo.append(task)
            else:
                yield task, found
        if not todo:
            return
        path = placed.folder.path
        logs = path.with_name(path.name + _SUFFIX)
        executor = self._executor(logs)
        self._submit(executor, placed, shares_of(todo, self._n_jobs))
        once_lost: set[str] = set()
        while self._running:
            if cancelled():
                self.close()
                return
            for running in list(self._running):
                ended = running.job.done()  # asked first: what it left is then all there
                yield from _taken(placed, running.left)
                if not ended:
                    continue
                self._running.remove(running)
                if not running.left:
                    continue
                cause, lost = f"A job of Slurm was lost: {_cause(running.job)}", running.left[0]
                if lost.slide_id in once_lost:
                    error = BackendDiedError(f"{cause}, twice with this slide", _AGAIN)
                    yield running.left.pop(0), placed.failed(lost, error)
                once_lost.add(lost.slide_id)
                if running.left:
                    self._submit(executor, placed, [running.left])
            time.sleep(POLL_S)
        shutil.rmtree(logs, ignore_errors=True)

    def _executor(self, logs: Path) -> submitit.AutoExecutor:
        """What takes jobs.

        Raises:
            UsageError: A parameter that it does not know.
        """
        import submitit

        logs.mkdir(mode=0o700, parents=True, exist_ok=True)  # it names slides and folders
        try:
            executor = submitit.AutoExecutor(
                folder=logs, cluster=self._cluster, slurm_max_num_timeout=_REQUEUES
            )
            common = executor._valid_parameters()
            named = {
                key if key in common else f"{self._cluster}_{key}": value
                for key, value in self._parameters.items()
            }
            executor.update_parameters(**{"name": "napari-xt", "timeout_min": _MINUTES, **named})
        except (ValueError, TypeError, NameError, RuntimeError, AssertionError) as error:
            with suppress(OSError):  # it may hold logs of an earlier call
                logs.rmdir()
            raise UsageError(
                f"--slurm: {' '.join(str(error).split())[:400]}", "Correct the parameter"
            ) from error
        return executor

    def _submit(
        self, executor: submitit.AutoExecutor, placed: Job, shares: Sequence[Sequence[Task]]
    ) -> None:
        """Hand in an array of jobs, one for each share.

        Raises:
            EngineError: Slurm does not take them.
        """
        here = versions()
        work = [
            Shard(placed, tuple(map(anywhere_task, share)), here, self._on_gpus) for share in shares
        ]
        try:
            jobs = executor.submit_array(work)
        except Exception as error:  # whatever sbatch says
            raise EngineError(
                f"Slurm does not take the jobs: {' '.join(str(error).split())[-300:]}",
                "Correct --slurm, or see with sinfo whether the cluster is up",
            ) from error
        self._running += map(_Running, jobs, map(list, shares))

    def close(self) -> None:
        """Cancel the jobs that are left."""
        left, self._running = self._running, []
        for running in left:
            with suppress(Exception):  # it may have ended meanwhile
                running.job.cancel()


def _taken(job: Job, left: list[Task]) -> Iterator[tuple[Task, Outcome]]:
    """The tasks that are done since, which leave the list."""
    for task in list(left):
        if (outcome := done_now(job, task)) is not None:
            left.remove(task)
            yield task, outcome


def _cause(job: submitit.Job[None]) -> str:
    """Why a job ended before its slides did."""
    error = job.exception()
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"its state is {job.state}"


def _parsed(parameters: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in parameters:
        key, is_there, value = text.partition("=")
        if not key or not is_there:
            raise UsageError(f"--slurm {text} is no KEY=VALUE", "Write e.g. --slurm partition=gpu")
        found[key.strip()] = int(value) if value.strip().isdigit() else value.strip()
    return found
