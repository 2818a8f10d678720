"""Flags that say who works on the slides of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from .options import OutOption

if TYPE_CHECKING:
    from xt_backend.batch.engines import EngineOptions

__all__ = [
    "Address",
    "Engine",
    "EngineFlags",
    "GiveUpAfter",
    "Isolate",
    "Processes",
    "Slurm",
    "engine_options",
]

Engine: TypeAlias = Annotated[
    str | None,
    typer.Option(help="local, ray or slurm: who works on the slides [default: local]."),
]
Processes: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Workers of the engine, each with a model [default: one for each GPU]."),
]
Address: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster, or auto [default: one is started on this machine for the batch].",
    ),
]
Slurm: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Parameter of Slurm's jobs, e.g. partition=gpu; may be given several times.",
    ),
]
Isolate: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--isolate",
        help="Open slides in a process of their own: one that makes its decoder crash fails alone.",
    ),
]
GiveUpAfter: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="MINUTES",
        help="With --isolate: a slide fails over which nothing moves for so long [default: 120].",
    ),
]


@dataclass(frozen=True, kw_only=True)
class EngineFlags(OutOption):
    """What a command has that works on many slides."""

    engine: str = "local"
    processes: int | None = None
    address: str | None = None
    slurm: tuple[str, ...] = ()
    isolate: bool = False
    give_up_after: float | None = None


def engine_options(own: EngineFlags) -> EngineOptions:
    """The engine that was asked for.

    Raises:
        UsageError: Options that are wrong, or do not fit each other.
    """
    from xt_backend.batch.engines import EngineOptions

    names = {field.name for field in fields(EngineFlags)} & EngineOptions.model_fields.keys()
    values = {name: value for name, value in asdict(own).items() if name in names}
    return EngineOptions.checked(values, {name: f"--{name.replace('_', '-')}" for name in names})
