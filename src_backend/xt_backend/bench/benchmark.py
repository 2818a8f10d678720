"""What a benchmark has to be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from .section import Section
from .spec import BenchSpec

__all__ = ["Benchmark", "Case", "Result", "Workplace"]

Case: TypeAlias = dict[str, Any]
"""What one measurement varies, as plain data: ``{"context": "mamba2", "seed": 0}``."""


@dataclass(frozen=True)
class Result:
    """One measurement.

    Attributes:
        case: What was varied.
        values: What was measured, as plain data.
    """

    case: Case
    values: dict[str, Any]


@dataclass(frozen=True)
class Workplace:
    """Where a benchmark works.

    Attributes:
        spec: What was asked for.
        tell: Takes a line about what is being done.
        shared: What several benchmarks of one run use, by a name of their own.
    """

    spec: BenchSpec
    tell: Callable[[str], None]
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """For sample slides and features, kept for next time; may not exist yet."""
        return self.spec.work_folder()


class Benchmark(ABC):
    """A series of measurements, one a case, and what the page says about them.

    Cases are measured one by one and each is kept at once, so that a run that was broken off goes
    on. An object lives for one run and may hold on to what its cases share.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    by_name_only: ClassVar[bool] = False
    """Left out unless it is named: it takes hours."""

    @abstractmethod
    def recipe(self, quick: bool) -> dict[str, Any]:
        """What all cases share, as plain data: results of another recipe are never mixed in."""

    @abstractmethod
    def cases(self, spec: BenchSpec) -> list[Case]:
        """What is to be measured, the most telling first."""

    @abstractmethod
    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """Measure one case; plain data."""

    @abstractmethod
    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """What the page says; at least one result, of one recipe."""

    def is_lasting(self, values: dict[str, Any]) -> bool:
        """Whether what was measured holds; else the case is measured anew in every run."""
        del values
        return True

    def missing(self, spec: BenchSpec) -> str | None:
        """Why it cannot be measured with this spec, as a sentence without full stop; else None."""
        del spec
        return None
