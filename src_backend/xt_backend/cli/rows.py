"""What became of a batch, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from xt_backend.keys import RunFile, SlideStatus, Stopped
from xt_backend.wording import STAGE_WORDS, counted

from .console import note, print_json, say, warn

if TYPE_CHECKING:
    from xt_backend.batch import Inputs, Run
    from xt_backend.outputs import SlideRow

__all__ = ["show_run", "summary", "tell_passed_over"]

_SHOWN = 0.005
"""Share of the time from which on a stage is named."""


def tell_passed_over(inputs: Inputs) -> None:
    """Name on stderr the files that are no slides."""
    for item in inputs.passed_over_values():
        note(f"passed over {item['file']}: {item['reason']}")


def show_run(run: Run, out: Path, json: bool) -> None:
    """Print what became of every slide, and how many of each.

    Args:
        run: The batch.
        out: Run directory.
        json: As one JSON object; warnings then go to stderr.
    """
    from xt_backend.engine import peak_memory_bytes
    from xt_backend.outputs import slide_values

    if not json:
        for line in (*_lines(run), *_headline(run, out)):
            say(line)
        if text := time_spent(run.seconds):
            note(text)
        return
    for row in run.rows:
        if text := _warning(row):
            warn(f"{row.slide}: {text}")
    print_json(
        {
            "out": str(out),
            "slides": [slide_values(row, run.classes, run.kinds) for row in run.rows],
            "counts": run.counts,
            "passed_over": [dict(item) for item in run.passed_over],
            "interrupted": run.interrupted,
            "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
            "peak_memory_bytes": peak_memory_bytes(),
        }
    )


def time_spent(seconds: Mapping[str, float]) -> str:
    """Where the time went, and the most memory; empty where nothing was timed.

    Args:
        seconds: By stage, see `Stages.all_told`.
    """
    from xt_backend.engine import peak_memory_bytes

    total = seconds.get("total", 0.0)
    whole = sum(seconds.get(name, 0.0) for name in STAGE_WORDS)  # of all workers, if several
    if not total or not whole:
        return ""
    shares = {words: seconds[name] / whole for name, words in STAGE_WORDS.items()}
    parts = [f"{words} {share:.0%}" for words, share in shares.items() if share >= _SHOWN]
    text = (
        f"time: {total:.1f} s; {', '.join(parts)}; beside that, reading took "
        f"{seconds['read']:.1f} s (decoding {seconds['decode']:.1f}, resampling "
        f"{seconds['resample']:.1f})"
    )
    peak = peak_memory_bytes()
    return text if peak is None else f"{text}; peak memory {peak / 1e9:.2f} GB"


def summary(row: SlideRow) -> str:
    """What became of a slide."""
    if row.status == SlideStatus.FAILED:
        return f"FAILED: {row.reason}"
    if row.status == SlideStatus.EMPTY:
        return f"empty: {row.reason}"
    parts = [f"{counted(row.n_regions or 0, 'region')}, {row.encoded_regions or 0:,} encoded now"]
    if row.n_screened_out:
        parts.append(
            f"{row.n_screened_out:,} screened out (recall at least {row.screened_recall:.1%})"
        )
    if row.predicted:
        parts.append(f"{row.predicted} {row.probabilities[row.predicted]:.1%}")
    if row.fractions:
        parts.append(", ".join(f"{name} {share:.1%}" for name, share in row.fractions.items()))
    if row.counts:
        parts.append(", ".join(f"{name} {count:,}" for name, count in row.counts.items()))
    if row.seconds_total and row.encoded_regions:
        parts.append(f"{row.seconds_total:.1f} s")
    return "; ".join(parts)


def _lines(run: Run) -> Iterator[str]:
    """One line a slide that was begun, and one for its warning."""
    for row in run.rows:
        how = run.stopped.get(row.row)
        if how is Stopped.NOT_STARTED:
            continue
        if how is not None:
            yield f"{row.slide}: interrupted"
            continue
        yield f"{row.slide}: {summary(row)}"
        if text := _warning(row):
            yield f"  Warning: {text}"


def _warning(row: SlideRow) -> str:
    return row.reason if row.status == SlideStatus.DONE else ""


def _headline(run: Run, out: Path) -> Iterator[str]:
    parts = [f"{n:,} {kind.replace('_', ' ')}" for kind, n in run.counts.items() if n]
    if n_warned := sum(bool(_warning(row)) for row in run.rows):
        parts.append(f"{counted(n_warned, 'warning')}")
    yield f"{', '.join(parts)}. Table: {out / RunFile.SLIDES_CSV}"
    if run.interrupted:
        yield "Run the same command again to go on."
