"""A manifest of many small slides, 1 % of them broken: planning, memory, summary, trying again.

Usage: python scripts/bench_batch.py [SLIDES] [--keep FOLDER] [--json]

SLIDES is 10,000. All good slides are links to one file, so that its regions are encoded once and
the rest of the time is what a batch costs besides: opening, tissue, context, writing, tables.
Wanted: a plan in 10 s and a summary in 30 s for 10,000 slides, memory of the last quarter of the
slides within 5 % of the first, exit code 3, and --retry-failed that leaves alone what is done.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.folders import folder_for
from support.models import write_tiny_model
from support.slides import write_tissue_slide

from xt_backend.batch import Batch, Outcome, Run, Task, plan, read_inputs, summarise
from xt_backend.config import ScoreOptions

EVERY = 100
"""One slide of so many is broken."""
GROWTH = 1.05
"""Memory of the last quarter over that of the first, at most."""
PLAN_S, SUMMARY_S = 10.0, 30.0
"""For 10,000 slides, at most."""


def write_manifest(folder: Path, n: int) -> Path:
    """Slides and their manifest."""
    first = write_tissue_slide(folder / "slide00000.tiff", side=512)
    lines = ["slide,slide_mpp,label,patient"]
    for number in range(n):
        path = folder / f"slide{number:05}.tiff"
        if number % EVERY == EVERY - 1:
            path.write_bytes(first.read_bytes()[:200])
        elif number:
            path.hardlink_to(first)
        lines.append(f"{path.name},0.5,{'ab'[number % 2]},p{number // 3}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and how long it took."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def scored(batch: Batch) -> tuple[Run, list[int]]:
    """The run, and the memory of this process after each slide."""
    process, memory = psutil.Process(), []

    def note(task: Task, outcome: Outcome) -> None:
        del task, outcome
        memory.append(process.memory_info().rss)

    return batch.run(on_outcome=note), memory


def measured(folder: Path, n: int) -> dict[str, Any]:
    """All that is measured, by name."""
    manifest = write_manifest(folder, n)
    options = ScoreOptions(cache=folder / "cache", encoder_backend="torch")
    model, out = str(write_tiny_model(folder / "tiny.safetensors")), folder / "run"
    tasks, plan_s = timed(lambda: plan(read_inputs([manifest]), options))
    (run, memory), run_s = timed(lambda: scored(Batch([manifest], model, out, options)))
    table = (out / "slides.csv").read_bytes()
    for name in ("slides.csv", "run.json"):
        (out / name).unlink()
    again, summary_s = timed(lambda: summarise(out))
    is_equal = (again.counts, (out / "slides.csv").read_bytes()) == (run.counts, table)
    quarter = max(1, len(memory) // 4)
    growth = float(np.mean(memory[-quarter:]) / np.mean(memory[:quarter]))

    # Every other broken slide is put right, and what failed is tried again.
    broken = [row.slide for row in run.rows if row.status == "failed"]
    repaired = broken[::2]
    for name in repaired:
        (folder / name).unlink()
        (folder / name).hardlink_to(folder / "slide00000.tiff")
    before = _times(out)
    retry = Batch([manifest], model, out, options, retry_failed=True)
    n_retried = len(retry.todo)
    (after, _), retry_s = timed(lambda: scored(retry))
    changed = {name for name, at in _times(out).items() if before.get(name) != at}
    return {
        "slides": len(tasks),
        "plan_s": plan_s,
        "run_s": run_s,
        "slides_per_s": n / run_s,
        "memory_mb": [round(memory[i] / 1e6) for i in (0, quarter, len(memory) - 1)],
        "memory_growth": growth,
        "exit_code": run.exit_code,
        "counts": run.counts,
        "summary_s": summary_s,
        "summary_is_equal": is_equal,
        "retried": n_retried,
        "retry_s": retry_s,
        "retry_touched": len(changed),
        "retry_counts": after.counts,
        "retry_touched_only_failures": changed == {Path(name).stem for name in broken},
    }


def _times(out: Path) -> dict[str, list[int]]:
    """When the files of each slide were written, by its id."""
    found: dict[str, list[int]] = {}
    for path in sorted([*out.glob("slide?????.*"), *(out / "ledger").glob("slide?????.*")]):
        found.setdefault(path.name.split(".")[0], []).append(path.stat().st_mtime_ns)
    return found


def failures(found: dict[str, Any]) -> Iterator[str]:
    """What is not as wanted."""
    share = found["slides"] / 10_000
    if found["plan_s"] > max(1.0, PLAN_S * share):
        yield "the plan took too long"
    if found["summary_s"] > max(1.0, SUMMARY_S * share):
        yield "the summary took too long"
    if found["memory_growth"] > GROWTH:
        yield "memory grew"
    if found["exit_code"] != 3:
        yield "the exit code is not 3"
    for name in ("summary_is_equal", "retry_touched_only_failures"):
        if not found[name]:
            yield f"not {name}"


def main() -> int:
    parser = argparse.ArgumentParser(description="A batch of many small slides")
    parser.add_argument("slides", type=int, nargs="?", default=10_000)
    parser.add_argument("--keep", type=Path, help="folder for everything, which stays there")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with folder_for(given.keep) as folder:
        found = measured(folder, given.slides)
    wrong = list(failures(found))
    if given.json:
        print(json.dumps({**found, "wrong": wrong}))
    else:
        for name, value in found.items():
            print(f"{name:28} {value:.2f}" if isinstance(value, float) else f"{name:28} {value}")
        for line in wrong:
            print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
