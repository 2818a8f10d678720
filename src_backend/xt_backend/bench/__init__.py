"""The project's benchmarks: what is measured, how it is kept, and the page that is made of it.

Names are loaded when first used: the list of benchmarks needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xt_backend import lazy

if TYPE_CHECKING:
    from .events import Tick, TickCallback
    from .registry import list_benchmarks
    from .run import BenchReport, run_benchmarks
    from .spec import BenchSpec

_HOMES = {
    "BenchReport": "run",
    "BenchSpec": "spec",
    "Tick": "events",
    "TickCallback": "events",
    "list_benchmarks": "registry",
    "run_benchmarks": "run",
}

__all__ = [
    "BenchReport",
    "BenchSpec",
    "Tick",
    "TickCallback",
    "list_benchmarks",
    "run_benchmarks",
]


__getattr__ = lazy.attributes(__name__, _HOMES)
