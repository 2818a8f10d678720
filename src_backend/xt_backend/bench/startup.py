"""How long one waits before anything happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from xt_backend.errors import EngineError

from .benchmark import Benchmark, Case, Result, Workplace
from .section import Section, Table, number
from .spec import BenchSpec

__all__ = ["Startup"]

_BARE = "pass"
_WAYS = {
    "import": ("`import xt_backend`", "import xt_backend", 0.3),
    "help": (
        "`napari-xt --help`",
        "from xt_backend.cli import main; raise SystemExit(main(['--help']))",
        0.6,
    ),
}
"""What it is called, what Python is given, and the seconds it may take."""


class Startup(Benchmark):
    """Fresh processes, in turn, beside one that does nothing."""

    name = "startup"
    title = "Starting"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        return {"rounds": 1 if quick else 7}

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`."""
        return [{}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        best: dict[str, float] = {}
        for turn in range(self.recipe(workplace.spec.quick)["rounds"]):
            workplace.tell(f"round {turn + 1}")
            for name, code in {"bare": _BARE, **{k: way[1] for k, way in _WAYS.items()}}.items():
                best[name] = min(_seconds(code), best.get(name, float("inf")))
        return {"seconds": best}

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        seconds = results[0].values["seconds"]
        rows = [
            # An import is what it adds to Python; a command is all that one waits for.
            [what, number(seconds[name] - (seconds["bare"] if name == "import" else 0)), f"{most}"]
            for name, (what, _, most) in _WAYS.items()
        ]
        return Section(
            self.title,
            [
                f"The fastest of {self.recipe(quick)['rounds']} fresh processes; the import "
                f"without the {number(seconds['bare'])} s of Python itself."
            ],
            [Table(("what", "seconds", "under"), rows)],
        )


def _seconds(code: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EngineError(f"It does not start: {said[-1] if said else 'no message'}", "Reinstall")
    return seconds
