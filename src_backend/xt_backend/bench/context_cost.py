"""What a context encoder costs: time and memory by the number of tokens."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from xt_backend.errors import EngineError
from xt_backend.keys import DEFAULT_COLORS

from .benchmark import Benchmark, Case, Result, Workplace
from .section import Picture, Section, Table, number
from .spec import BenchSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ContextCost"]

KINDS = ("transformer-xl", "mamba2", "hyper", "mamba", "none", "attention")
LIMITS = {"transformer-xl": 8, "mamba2": 4, "hyper": 4, "mamba": 4}
"""How many times faster than attention each has to be at 16k tokens."""
LIMIT_EXPONENT, LIMIT_MEMORY_GB = 1.2, 1.2


class ContextCost(Benchmark):
    """All kinds and lengths in turn, so that whatever else the machine does meets all alike."""

    name = "context-cost"
    title = "Time and memory of the context encoders"

    def recipe(self, quick: bool) -> dict[str, Any]:
        """See `Benchmark`."""
        lengths = [64, 128, 256, 512] if quick else [1024 * 2**power for power in range(7)]
        return {
            "dim": 24 if quick else 192,
            "layers": 2,
            "lengths": lengths,
            # Its time is quadratic: the longest would hold up everything beside it.
            "longest_attention": lengths[-2 if quick else -3],
            "compared_at": lengths[-3],
            "exponent_from": lengths[-4],
            "rounds": 2 if quick else 3,
            "memory_at": lengths[-1:] if quick else lengths,
            "options": {"attention": {"heads": 6}},
        }

    def cases(self, spec: BenchSpec) -> list[Case]:
        """See `Benchmark`: one, because ratios are only good within one run."""
        return [{}]

    def measure(self, case: Case, workplace: Workplace) -> dict[str, Any]:
        """See `Benchmark`."""
        recipe = self.recipe(workplace.spec.quick)
        pairs = [
            [kind, length]
            for length in recipe["lengths"]
            for kind in KINDS
            if kind != "attention" or length <= recipe["longest_attention"]
        ]
        asked = {name: recipe[name] for name in ("dim", "layers", "options")}
        seconds: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
        total = recipe["rounds"] * len(pairs)
        rows = _child({**asked, "cases": pairs, "rounds": recipe["rounds"]})
        for done, (kind, length, taken, _) in enumerate(rows, start=1):
            workplace.tell(f"time {done} of {total}, {kind} with {length} tokens")
            of_kind = seconds[kind]
            of_kind[str(length)] = min(taken, of_kind.get(str(length), math.inf))
        memory: dict[str, dict[str, int | None]] = {kind: {} for kind in KINDS}
        weighed = [pair for pair in pairs if pair[1] in recipe["memory_at"]]
        for done, (kind, length) in enumerate(weighed):
            workplace.tell(f"memory {done + 1} of {len(weighed)}, {kind} with {length} tokens")
            # Alone in a process: no other case has left memory behind that it could use again.
            for *_, peak in _child({**asked, "cases": [[kind, length]], "rounds": 1}):
                memory[kind][str(length)] = peak
        return {"seconds": seconds, "peak_bytes": memory}

    def section(self, results: Sequence[Result], quick: bool) -> Section:
        """See `Benchmark`."""
        recipe, values = self.recipe(quick), results[-1].values
        lengths, at = recipe["lengths"], recipe["compared_at"]
        seconds = {
            kind: {int(length): one for length, one in found.items()}
            for kind, found in values["seconds"].items()
        }
        memory = {
            kind: {int(length): one for length, one in found.items()}
            for kind, found in values["peak_bytes"].items()
        }
        rows = []
        for kind, limit in LIMITS.items():
            longest = memory[kind].get(lengths[-1])
            rows.append(
                [
                    kind,
                    number(exponent(seconds[kind], recipe["exponent_from"], lengths[-1])),
                    str(LIMIT_EXPONENT),
                    number(seconds["attention"][at] / seconds[kind][at], 1),
                    str(limit),
                    number(None if longest is None else longest / 1e9),
                    str(LIMIT_MEMORY_GB),
                ]
            )
        first, last = short(recipe["exponent_from"]), short(lengths[-1])
        summary = Table(
            (
                "context encoder",
                f"exponent of time, {first} to {last}",
                "at most",
                f"x faster than attention at {short(at)}",
                "at least",
                f"peak GB at {last}",
                "at most",
            ),
            rows,
        )
        by_length = Table(
            ("seconds", *(short(length) for length in lengths)),
            [[kind, *(number(seconds[kind].get(one), 3) for one in lengths)] for kind in KINDS],
            "Seconds of a forward pass, the fastest round:",
        )
        by_memory = Table(
            ("GB", *(short(one) for one in recipe["memory_at"])),
            [
                [kind, *(_gigabytes(memory[kind].get(one)) for one in recipe["memory_at"])]
                for kind in KINDS
            ],
            "Peak memory beyond weights and input, each measured in a process of its own:",
        )
        return Section(
            self.title,
            [
                f"A forward pass of {recipe['layers']} layers of width {recipe['dim']}, float32, "
                "one field, `build_context`'s defaults; `attention` is full attention (SDPA), 6 "
                f"heads, the quadratic baseline. {recipe['rounds']} rounds over all kinds and "
                "lengths in turn, of which the fastest counts. Attention over "
                f"more than {short(recipe['longest_attention'])} tokens is left out: its time "
                "grows with their square.",
            ],
            [summary, by_length, by_memory],
            [
                Picture(
                    self.name,
                    "Seconds and peak memory by number of tokens, both axes logarithmic, one line "
                    "a context encoder",
                    lambda: _draw(seconds, memory),
                )
            ],
        )


def exponent(seconds: dict[int, float], first: int, last: int) -> float | None:
    """E of time proportional to tokens to the E between two lengths; None where one is missing."""
    if first not in seconds or last not in seconds:
        return None
    return math.log(seconds[last] / seconds[first]) / math.log(last / first)


def short(length: int) -> str:
    """``16k`` for 16384."""
    return f"{length // 1024}k" if length % 1024 == 0 else str(length)


def _gigabytes(n_bytes: int | None) -> str:
    return number(None if n_bytes is None else n_bytes / 1e9)


def _child(asked: dict[str, Any]) -> Iterator[list[Any]]:
    """Rows of `cost_child`, as they come."""
    command = [sys.executable, "-m", f"{__package__}.cost_child"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        if child.stdin is None or child.stdout is None:
            raise TypeError("a process without pipes")
        try:
            child.stdin.write(json.dumps(asked))
            child.stdin.close()
            for line in child.stdout:
                yield json.loads(line)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise EngineError(
            f"Measuring the context encoders ended with code {child.returncode}",
            "See the messages above; with too little memory the longest fields do not fit",
        )


def _draw(seconds: dict[str, dict[int, float]], memory: dict[str, dict[int, int | None]]) -> Figure:
    from xt_backend.training.plots import new_figure

    figure = new_figure(10.5, 4.0, "Benchmarks")
    left, right = figure.subplots(1, 2)
    _curves(left, seconds, lambda value: value)
    left.set_title("seconds of a forward pass")
    known = {
        kind: {length: one for length, one in found.items() if one}
        for kind, found in memory.items()
    }
    _curves(right, known, lambda value: value / 1e9)
    right.axhline(LIMIT_MEMORY_GB, color="0.6", linewidth=0.8, linestyle="--")
    right.set_title("GB of peak memory")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside right center")
    return figure


def _curves(axes: Axes, values: dict[str, dict[int, Any]], scale: Callable[[float], float]) -> None:
    drawn = [kind for kind in KINDS if kind != "none"]  # its time is nothing on this scale
    for kind, color, marker in zip(drawn, DEFAULT_COLORS, "os^Dx", strict=False):
        lengths = sorted(values[kind])
        heights = [scale(values[kind][length]) for length in lengths]
        axes.plot(lengths, heights, marker=marker, color=color, label=kind, markersize=4)
    every = sorted({length for found in values.values() for length in found})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(every, [short(length) for length in every])
    axes.minorticks_off()
    axes.set_xlabel("tokens")
    axes.spines[["top", "right"]].set_visible(False)
