"""A planned batch, and the engine that is open for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from xt_backend.config import EncodingOptions
from xt_backend.engine import Device

from .engines import BatchEngine, EngineOptions, open_engine
from .isolation import Isolation
from .job import Told
from .outcome import Outcome
from .plan import Task
from .planned import PlannedBatch
from .result import Run

__all__ = ["Engaged", "Plans", "engage", "run_on"]

BatchType = TypeVar("BatchType", bound=PlannedBatch)
Planned = TypeVar("Planned", bound=PlannedBatch, covariant=True)


class Plans(Protocol[Planned]):
    """Plans a batch for those who will work on it."""

    def __call__(self, *, device: Device | None, isolation: Isolation | None) -> Planned:
        """Plan it.

        Args:
            device: Of workers elsewhere; None for one of this machine.
            isolation: How slides are kept out of this process; None where they need not be.
        """
        ...


@dataclass(frozen=True)
class Engaged(Generic[BatchType]):
    """A planned batch and its engine.

    Attributes:
        batch: The batch.
        engine: Open, until the block of `engage` is left.
    """

    batch: BatchType
    engine: BatchEngine

    def run(
        self,
        on_event: Callable[[Task, Told], None] = lambda task, told: None,
        on_outcome: Callable[[Task, Outcome], None] = lambda task, outcome: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Run:
        """Let the engine do all slides; see `PlannedBatch.run`."""
        execute = self.engine.executor(self.batch.device)
        return self.batch.run(on_event, on_outcome, cancelled, execute)


@contextmanager
def engage(
    engine: EngineOptions, options: EncodingOptions, plan: Plans[BatchType]
) -> Iterator[Engaged[BatchType]]:
    """Open an engine and plan a batch for it.

    Args:
        engine: Which one.
        options: Of the batch.
        plan: Plans the batch.

    Raises:
        UsageError: The engine is not installed, or does not take what it is given.
        EngineError: It cannot be reached.
        XTError: Whatever `plan` raises.
    """
    with open_engine(engine, options) as opened:
        yield Engaged(plan(device=opened.device, isolation=engine.isolation), opened)


def run_on(
    options: EncodingOptions, plan: Plans[PlannedBatch], *, slurm: Sequence[str], **engine: Any
) -> Run:
    """Plan and run a batch as a function for scripts was asked to.

    Args:
        options: Of the batch.
        plan: Plans the batch.
        slurm: See `EngineOptions`.
        **engine: The other fields of `EngineOptions`.

    Raises:
        UsageError: Fields that are wrong, or do not fit each other.
        XTError: As of `engage` and of `PlannedBatch.run`.
    """
    asked = EngineOptions.checked({**engine, "slurm": tuple(slurm)})
    with engage(asked, options, plan) as engaged:
        return engaged.run()
