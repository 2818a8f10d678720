"""Names to benchmarks."""

from __future__ import annotations

from importlib import import_module

from xt_backend.errors import UsageError

from .benchmark import Benchmark

__all__ = ["HOMES", "get_benchmark", "list_benchmarks"]

HOMES = {
    "context-cost": "context_cost:ContextCost",
    "questions": "questions:Questions",
    "startup": "startup:Startup",
    "reading": "reading:Reading",
    "speed": "speed:Speed",
    "large-slide": "large_slide:LargeSlide",
    "screening": "screening:Screening",
    "context-gain": "context_gain:ContextGain",
    "context-gain-full": "context_gain:FullContextGain",
    "slide-gain": "slide_gain:SlideGain",
    "orders": "orders:Orders",
    "real-sets": "real_sets:RealSets",
    "transfer": "transfer:Transfer",
    "receptive-field": "receptive_field:ReceptiveField",
}
"""Module and class by name, in the order of the page; a new benchmark is one line here."""


def list_benchmarks() -> tuple[str, ...]:
    """All names, in the order of the page."""
    return tuple(HOMES)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in HOMES:
        raise UsageError(f"There is no benchmark '{name}'", f"There are: {', '.join(HOMES)}")
    module, _, kind = HOMES[name].partition(":")
    made = getattr(import_module(f".{module}", __package__), kind)()
    if not isinstance(made, Benchmark):
        raise TypeError(f"{HOMES[name]} is no Benchmark")
    return made
