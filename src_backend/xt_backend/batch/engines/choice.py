"""Which engine works on the slides of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, Protocol, Self

from pydantic import Field, model_validator

from xt_backend.config import EncodingOptions, Options
from xt_backend.engine import Device

from ..isolation import Isolation
from ..job import Executor

__all__ = ["BatchEngine", "EngineOptions", "open_engine"]


class EngineOptions(Options):
    """Who works on the slides of a batch; no result depends on it.

    Attributes:
        engine: ``local``, ``ray`` or ``slurm``.
        processes: Workers; by default one for each GPU, or what the engine's page says.
        address: HOST:PORT of a Ray cluster, or ``auto`` for the one of this machine; one is started
            on this machine, and ended afterwards, when None.
        slurm: Parameters of the jobs, e.g. ``partition=gpu``.
        isolate: Slides are opened by processes that may die, never by the one of the batch.
        give_up_after: Minutes without any progress after which an isolated slide has failed; None
            for those of `Isolation`.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    processes: Annotated[int, Field(ge=1, le=10_000)] | None = None
    address: str | None = None
    slurm: tuple[str, ...] = ()
    isolate: bool = False
    give_up_after: Annotated[float, Field(gt=0, le=1_000_000)] | None = None

    @property
    def isolation(self) -> Isolation | None:
        """How slides are isolated; None where they are not."""
        if not self.isolate:
            return None
        return Isolation() if self.give_up_after is None else Isolation(60.0 * self.give_up_after)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.address is not None and self.engine != "ray":
            raise ValueError("--address is the one of a Ray cluster: give --engine ray too")
        if self.slurm and self.engine != "slurm":
            raise ValueError("--slurm is for Slurm's jobs: give --engine slurm too")
        if self.isolate and self.engine != "local":
            raise ValueError("--isolate is for this machine: leave --engine out")
        if self.give_up_after is not None and not self.isolate:
            raise ValueError("--give-up-after is for isolated slides: give --isolate too")
        return self


class BatchEngine(Protocol):
    """What every engine can do."""

    @property
    def device(self) -> Device | None:
        """That its workers have; None where that is for this machine to find out."""
        ...

    def executor(self, device: Device) -> Executor | None:
        """Who does the tasks of a batch; None for the process of the batch itself.

        Args:
            device: That the batch was planned for.
        """
        ...

    def close(self) -> None:
        """End what it has started."""


@contextmanager
def open_engine(engine: EngineOptions, options: EncodingOptions) -> Iterator[BatchEngine]:
    """An engine that is ready, before anything is planned.

    Args:
        engine: Which one.
        options: Of the batch.

    Raises:
        UsageError: It is not installed, or does not take what it is given.
        EngineError: It cannot be reached.
    """
    opened = _opened(engine, options)
    try:
        yield opened
    finally:
        opened.close()


def _opened(engine: EngineOptions, options: EncodingOptions) -> BatchEngine:
    if engine.engine == "ray":
        from .ray_engine import RayEngine

        return RayEngine(engine.address, engine.processes, options)
    if engine.engine == "slurm":
        from .slurm import SlurmEngine

        return SlurmEngine(engine.slurm, engine.processes, options)
    from .local import LocalEngine

    return LocalEngine(options.device, engine.processes, isolation=engine.isolation)
