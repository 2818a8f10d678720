"""What a run, the process that speaks with its Ray cluster, and the worker there say.

The process in the middle passes on what it need not understand: it loads neither torch nor slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt_backend.errors import XTError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from xt_backend.slides import Lattice, StainNormaliser

    from ..device import Device
    from ..encoders import Way

__all__ = [
    "Answered",
    "Ask",
    "Broke",
    "Connect",
    "Content",
    "Looked",
    "OpenedEncoder",
    "Place",
    "SlideThere",
]


@dataclass(frozen=True)
class Connect:
    """Run to child: connect to this cluster, and ask it for a worker.

    Attributes:
        address: HOST:PORT or ``auto``.
        device: As of `EncodingOptions`; decides whether the worker gets a GPU.
    """

    address: str
    device: str


@dataclass(frozen=True)
class Ask:
    """Run to child: let the worker do this, one of the methods of `Host`. None asks it to end."""

    number: int
    what: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Content:
    """Stands for the content of a file among the arguments of `Ask`; the child reads it."""

    path: Path


@dataclass(frozen=True)
class Answered:
    """Child to run: what the worker has answered, or why it cannot.

    Attributes:
        number: Of the question.
        answer: Pickled by the worker.
    """

    number: int
    answer: bytes


@dataclass(frozen=True)
class Broke:
    """Child to run: the cluster or the worker is gone, or cannot be had."""

    error: XTError


@dataclass(frozen=True)
class Place:
    """Where a worker is.

    Attributes:
        node: Name of the machine.
        versions: As of `installed.versions`.
    """

    node: str
    versions: dict[str, str]


@dataclass(frozen=True)
class OpenedEncoder:
    """How a worker encodes.

    Attributes:
        device: Of the worker.
        way: In which it encodes.
        numerics: What its features depend on besides encoder and pixels.
        batch: Regions that it computes together.
    """

    device: Device
    way: Way
    numerics: dict[str, Any]
    batch: int


@dataclass(frozen=True)
class SlideThere:
    """A slide that a worker is to read itself.

    Attributes:
        path: As the worker's machine knows it.
        identity: Of the content; another file is not read.
        slide_mpp: As of `CommonOptions`.
        accept_objective_mpp: As of `CommonOptions`.
        lattice: Its region places.
        normaliser: Brings its stain to that of the model; None leaves it.
        workers: Reader threads.
    """

    path: str
    identity: str
    slide_mpp: float | None
    accept_objective_mpp: bool
    lattice: Lattice
    normaliser: StainNormaliser | None
    workers: int


@dataclass(frozen=True)
class Looked:
    """Regions that were read and encoded.

    Attributes:
        status: (n,) uint8 of `RegionStatus`.
        features: (m, k*k, D) float16 of those m that could be read; None where there are none.
        measures: (n, 4) float16, as of `Inspection`; None where not asked for.
    """

    status: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float16] | None
    measures: npt.NDArray[np.float16] | None
