"""``napari-xt diff``"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from xt_backend.wording import counted

from ..app import command
from ..console import print_json, progress_bar, say
from ..options import Json

_MOST_DIFFERENCES = 8
_ONLY = ("n_only_a", "n_only_b")
_WORDS = {"only_a": "in run A only", "only_b": "in run B only"}


@command()
def diff(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder that `score` wrote.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another one.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for tables and pictures [default: none are written]."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="CSV a,b: which slide of A belongs to which of B [default: those of the same "
            "name, else of the same content]."
        ),
    ] = None,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Write tables only.")] = False,
    distance_um: Annotated[
        float, typer.Option(help="Points that are no farther apart may be the same.")
    ] = 8.0,
    json: Json = False,
) -> int:
    """Compare two runs of the same slides, region by region.

    Nothing is computed anew. Exit codes: 0 all slides were compared; 2 bad usage; 3 some could
    not be: they are in one run only, failed in one, or a result is damaged; 5 cannot write.
    """
    from xt_backend.batch import diff_runs

    with progress_bar() as bar:
        task = bar.add_task("comparing", total=None)
        found = diff_runs(
            run_a,
            run_b,
            out,
            lambda done, total: bar.update(task, completed=done, total=total),
            pairs=pairs,
            pictures=not no_pictures,
            distance_um=distance_um,
        )
    if json:
        from xt_backend.store import plain_json

        slides = plain_json(found.rows)
        written = [path.name for path in found.written]
        print_json({**found.summary, "slides": slides, "written": written})
    else:
        for row in found.rows:
            say(_line(row))
        for line in _summary(found.summary):
            say(line)
        if out is not None:
            say(f"Files: {out}")
    return 0 if found.complete else 3


def _line(row: Mapping[str, Any]) -> str:
    """What is said of a slide."""
    if row["status"] != "compared":
        return f"{row['slide']}: NOT COMPARED: {row['reason']}"
    parts = [_agreement(row["n_compared"], row["same_class"], row["kappa"])]
    parts += [f"{row[key]:,} in {key[-1].upper()} only" for key in _ONLY if row[key]]
    if row["predicted_a"] or row["predicted_b"]:
        parts.append(f"predicted {row['predicted_a'] or '-'} and {row['predicted_b'] or '-'}")
    if math.isfinite(row["pixels_same"]):
        parts.append(f"{row['pixels_same']:.1%} of the pixels of the same class")
    for key in row:
        if key.startswith("points_") and key.endswith("_both"):
            of_a, of_b = (row[f"{key.removesuffix('both')}{side}"] for side in "ab")
            kind = key.removeprefix("points_").removesuffix("_both")
            parts.append(f"{kind} {of_a:,} and {of_b:,}, {row[key]:,} the same")
    line = f"{row['slide']}: {'; '.join(parts)}"
    return f"{line} ({row['reason']})" if row["reason"] else line


def _agreement(n: int, same: float | None, kappa: float | None) -> str:
    if not n or same is None:
        return "no region with a class in both"
    text = f"{same:.1%} of {counted(n, 'region')} of the same class"
    return text if kappa is None or not math.isfinite(kappa) else f"{text}, kappa {kappa:.3f}"


def _summary(found: Mapping[str, Any]) -> Iterator[str]:
    """All slides together, and what is different about the runs."""
    regions = found["regions"]
    told = [f"{n:,} {_WORDS.get(status, status)}" for status, n in found["counts"].items()]
    told.append(_agreement(regions["compared"], regions["same_class"], regions["kappa"]))
    yield f"{'; '.join(told)}."
    if regions["mean_abs_diff"] is not None:
        yield f"Probabilities differ by {regions['mean_abs_diff']:.4f} on average."
    different = found["differences"]
    shown = [f"{d['key']} ({d['a']} and {d['b']})" for d in different[:_MOST_DIFFERENCES]]
    if len(different) > len(shown):
        shown.append(f"{len(different) - len(shown)} more")
    yield f"The runs differ in: {', '.join(shown) or 'nothing that they note'}."
