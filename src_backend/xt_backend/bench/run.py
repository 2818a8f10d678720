"""Running benchmarks, one case after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xt_backend.publishing import make_folder, scratch
from xt_backend.store.plain import plain_json
from xt_backend.training.plots import require_matplotlib

from .benchmark import Benchmark, Case, Workplace
from .events import Tick, TickCallback, ignore
from .machine import describe_conditions, describe_machines, load, this_machine
from .page import PAGE, tables_as_json, to_text, write_page
from .records import Records
from .registry import get_benchmark, list_benchmarks
from .section import Section
from .spec import BenchSpec

__all__ = ["BenchReport", "run_benchmarks"]


@dataclass
class BenchReport:
    """The outcome of `run_benchmarks`.

    Attributes:
        page: The page.
        sections: What it says by benchmark; only of those that were asked for.
        measured: Cases measured now, by benchmark; the others were there already.
        skipped: Why a benchmark could not be measured, by name.
    """

    page: Path
    sections: dict[str, Section] = field(default_factory=dict)
    measured: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """The tables, and what was left out and why, for the screen."""
        reasons = [f"{name} was not measured: {why}." for name, why in self.skipped.items()]
        return "\n\n".join(part for part in (to_text(self.sections), *reasons) if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "page": self.page.name,
            "tables": tables_as_json(self.sections),
            "measured": dict(self.measured),
            "skipped": dict(self.skipped),
        }


def run_benchmarks(spec: BenchSpec, tick: TickCallback = ignore) -> BenchReport:
    """Measure what is not measured yet, and write the page.

    Every case is kept in ``results.json`` as soon as it is measured. The page holds all benchmarks
    that were ever measured with the present recipes in this folder; it is also written when the
    run is broken off.

    Args:
        spec: What to measure.
        tick: Told what is being done.

    Raises:
        UsageError: There is no benchmark of a name, or matplotlib is not installed.
        StoreCorruptError: `spec.out` holds a damaged ``results.json``.
        OutputError: The folder cannot be written.
        XTError: What a benchmark itself came upon.
    """
    require_matplotlib("Benchmarks")
    every = [get_benchmark(name) for name in dict.fromkeys(spec.names or list_benchmarks())]
    wanted = [one for one in every if spec.names or not one.by_name_only]
    records = Records(spec.out)
    report = BenchReport(spec.out / PAGE)
    shared: dict[str, Any] = {}
    try:
        for benchmark in wanted:
            if (reason := benchmark.missing(spec)) is not None:
                report.skipped[benchmark.name] = reason
                continue
            report.measured[benchmark.name] = 0
            for _ in _measure(benchmark, spec, records, tick, shared):
                report.measured[benchmark.name] += 1
    finally:
        sections = _write(spec, records)
        names = {benchmark.name for benchmark in wanted}
        report.sections = {name: one for name, one in sections.items() if name in names}
    return report


def _measure(
    benchmark: Benchmark,
    spec: BenchSpec,
    records: Records,
    tick: TickCallback,
    shared: dict[str, Any],
) -> Iterator[Case]:
    """Measure the cases that are not kept yet, and keep each; yields those done."""
    name, recipe, cases = benchmark.name, benchmark.recipe(spec.quick), benchmark.cases(spec)
    kept = [one.case for one in records.results(name, recipe) if benchmark.is_lasting(one.values)]
    waiting = [case for case in cases if not spec.resume or plain_json(case) not in kept]
    if waiting:  # told now, not after the first case, which may take an hour
        make_folder(spec.out)
        with scratch(spec.out, 1):
            pass
    for done, case in enumerate(waiting):
        what = ", ".join(f"{key} {value}" for key, value in case.items())

        def tell(message: str, done: int = done, what: str = what) -> None:
            tick(Tick(name, done, len(waiting), f"{what}: {message}" if message else what))

        tell("")
        before = load()
        values = benchmark.measure(case, Workplace(spec, tell, shared))
        machine = {**this_machine(), "load": [before, load()]}
        records.add(name, recipe, case, values, machine)
        yield case
    tick(Tick(name, len(waiting), len(waiting)))


def _write(spec: BenchSpec, records: Records) -> dict[str, Section]:
    """The page of all that was measured; nothing where nothing was."""
    sections: dict[str, Section] = {}
    where: dict[str, str] = {}
    conditions: dict[str, str] = {}
    for name in list_benchmarks():
        benchmark = get_benchmark(name)
        recipe = benchmark.recipe(spec.quick)
        if results := records.results(name, recipe):
            sections[name] = benchmark.section(results, spec.quick)
            machines = records.machines(name, recipe)
            where[name] = describe_machines(machines)
            conditions[name] = describe_conditions(machines)
    if sections:
        make_folder(spec.out)
        write_page(spec.out, sections, where, conditions, spec.quick)
    return sections
