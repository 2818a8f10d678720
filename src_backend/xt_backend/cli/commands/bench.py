"""``napari-xt bench``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..app import command
from ..console import print_json, progress_bar, say, say_table
from ..options import Json


@command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="See --list [default: all but those of hours].")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of benchmarks.md, its pictures and results.json.")
    ] = Path("benchmarks"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes that only show that everything works.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="Trainings of each kind.")] = 3,
    data: Annotated[
        Path | None, typer.Option(help="Folder of real labelled images, see docs/bench.md.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for sample slides and features [default: the user's cache]."),
    ] = None,
    peer_python: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Python of an environment with LazySlide or TIAToolbox, for speed; repeatable.",
        ),
    ] = None,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Measure anew what is in results.json already.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Name the benchmarks, and stop.")] = False,
    json: Json = False,
) -> None:
    """Measure what the project claims, and write a page about it.

    Every measurement is kept at once: the same command goes on where it was broken off.
    """
    from xt_backend.bench import BenchSpec, Tick, list_benchmarks, run_benchmarks

    if list_:
        known = list_benchmarks()
        if json:
            print_json({"benchmarks": list(known)})
            return
        for name in known:
            say(name)
        return
    spec = BenchSpec.checked(
        {
            "names": tuple(names or ()),
            "out": out,
            "quick": quick,
            "seeds": seeds,
            "data": data,
            "work": work,
            "peer_pythons": tuple(peer_python or ()),
            "resume": not no_resume,
        }
    )
    with progress_bar() as bar:
        task = bar.add_task("bench", total=None)

        def show(tick: Tick) -> None:
            words = f"{tick.benchmark} {tick.message}".strip()
            bar.update(task, completed=tick.done, total=tick.total or None, description=words)

        report = run_benchmarks(spec, show)
    if json:
        print_json(report.to_dict())
        return
    say_table(report.to_text())
    if report.sections:
        say(f"Page: {report.page}")
