"""A share of a batch's slides, as the work of one Slurm job."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..following import Following
from ..job import Job
from ..outcome import Outcome
from ..plan import Task
from .place import check_place

if TYPE_CHECKING:
    import submitit

__all__ = ["Shard", "done_now", "shares_of"]


@dataclass(frozen=True)
class Shard:
    """What one job does.

    Done slides are passed over: a job that is requeued goes on where it was.

    Attributes:
        job: What the slides have in common, with absolute paths.
        tasks: The slides, in the order in which they are done.
        versions: Of the machine of the plan.
        on_gpus: Whether it may use a GPU.
    """

    job: Job
    tasks: tuple[Task, ...]
    versions: Mapping[str, str]
    on_gpus: bool

    def __call__(self) -> None:
        """Do what is left of it; what becomes of each slide is in the ledger.

        Raises:
            EngineError: This machine cannot.
            OutputError: The output cannot be written.
        """
        if not self.on_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        check_place(self.job, self.versions)
        with self.job.worker() as worker:
            worker.ready()
            left = [task for task in self.tasks if done_now(self.job, task) is None]
            following = Following(left, self.job.folder, worker.begin)
            for task in left:
                worker.run(task, following.watch)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit hands in again when the job is preempted or its time is over."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def done_now(job: Job, task: Task) -> Outcome | None:
    """What this call's workers made of a task; None where they have not come to it."""
    found = None if job.folder is None else job.folder.known(task)
    return None if found is None or found.kept else found


def shares_of(tasks: Sequence[Task], n: int) -> list[tuple[Task, ...]]:
    """Tasks in n shares that take about as long, by the size of the files.

    Args:
        tasks: Longest first.
        n: How many shares; fewer where there are fewer tasks.
    """
    shares: list[list[Task]] = [[] for _ in range(min(n, len(tasks)))]
    sums = [0] * len(shares)
    for task in tasks:
        least = sums.index(min(sums))
        shares[least].append(task)
        sums[least] += max(1, task.source.n_bytes)
    return [tuple(share) for share in shares]
