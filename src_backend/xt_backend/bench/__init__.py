"""The project's benchmarks: what is measured, how it is kept, and the page that is made of it.

Names are loaded when first used: the list of benchmarks needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
