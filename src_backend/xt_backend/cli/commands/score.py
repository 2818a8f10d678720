"""``napari-xt score``"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xt_backend.config import ScoreOptions
from xt_backend.keys import SlideStatus
from xt_backend.wording import counted

from .. import options as flags
from ..app import command
from ..console import note, print_json, progress_bar, say
from ..interrupt import listening
from ..progress import RunBar
from ..rows import show_run, tell_passed_over

if TYPE_CHECKING:
    from xt_backend.batch import Inputs


@dataclass(frozen=True, kw_only=True)
class _Own(flags.OutOption):
    model: str
    dry_run: bool = False


@command()
def score(
    inputs: flags.Inputs,
    model: Annotated[
        str | None, typer.Option(help="Name of a known model, or a model file. Needed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory; resumed when it holds this run. Needed.")
    ] = None,
    slide_mpp: flags.SlideMpp = None,
    model_mpp: flags.ModelMpp = None,
    accept_objective_mpp: flags.AcceptObjectiveMpp = None,
    allow_upsample: flags.AllowUpsample = None,
    roi: flags.Roi = None,
    tissue: flags.Tissue = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    encoder_backend: flags.EncoderBackend = None,
    batch_size: flags.BatchSize = None,
    context: Annotated[
        str | None, typer.Option(help="on, or off: predict from each region alone [default: on].")
    ] = None,
    cache: flags.Cache = None,
    no_cache: flags.NoCache = None,
    stride: flags.Stride = None,
    workers: flags.Workers = None,
    max_failed_fraction: flags.MaxFailedFraction = None,
    max_pixels: flags.MaxPixels = None,
    layouts: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Files beside the usual ones: parquet."),
    ] = None,
    screen: Annotated[
        float | None,
        typer.Option(
            metavar="RECALL",
            help="Leave out regions that at low resolution do not look like what is sought, but at "
            "most so many that this share of it is scored, e.g. 0.95 [default: score all].",
        ),
    ] = None,
    screen_class: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Class that --screen seeks; may be given several times."),
    ] = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    json: flags.Json = False,
) -> int:
    """Score slides: a row in slides.csv for every input, and files.

    Exit codes: 0 all done; 2 bad usage; 3 finished, but some slides failed or hold NaN;
    5 cannot write; 130 and 143 interrupted. With --dry-run, 3 if some slides would fail.
    """
    given: dict[str, Any] = {
        "model": model,
        "out": out,
        "slide_mpp": slide_mpp,
        "model_mpp": model_mpp,
        "accept_objective_mpp": accept_objective_mpp,
        "allow_upsample": allow_upsample,
        "roi": roi,
        "tissue": tissue,
        "device": device,
        "precision": precision,
        "encoder_backend": encoder_backend,
        "batch_size": batch_size,
        "context": None if context is None else flags.on_off("--context", context),
        "cache": cache,
        "no_cache": no_cache,
        "stride": stride,
        "workers": workers,
        "max_failed_fraction": max_failed_fraction,
        "max_pixels": max_pixels,
        "layouts": tuple(layouts) if layouts else None,
        "screen": screen,
        "screen_class": tuple(screen_class) if screen_class else None,
        "offline": offline,
        "dry_run": dry_run or None,
        "json": json or None,
    }
    chosen, own = flags.merge_options(ScoreOptions, config, given, _Own)
    from xt_backend.batch import Batch, dry_run_rows

    batch = Batch(inputs, own.model, own.out, chosen, dry_run=own.dry_run, arguments=sys.argv)
    note(f"device: {batch.device.name}, {batch.device.precision} ({batch.device.reason})")
    note(f"encoder: {batch.choice.way} ({batch.choice.reason})")
    tell_passed_over(batch.inputs)
    if own.dry_run:
        rows = dry_run_rows(batch)
        _show_plan(rows, batch.inputs, own.json)
        return 3 if any(row["status"] == SlideStatus.FAILED for row in rows) else 0
    with listening() as stop, progress_bar() as bar:
        shown = RunBar(bar, len(batch.tasks))
        run = batch.run(shown.on_event, shown.on_outcome, stop)
    show_run(run, batch.inputs, own.out, own.json)
    return stop.exit_code if run.interrupted else run.exit_code


def _show_plan(rows: list[dict[str, Any]], inputs: Inputs, json: bool) -> None:
    if json:
        print_json({"slides": rows, "passed_over": inputs.passed_over_values()})
        return
    for row in rows:
        name = row["slide"]
        if row["status"] == SlideStatus.FAILED:
            say(f"{name}: cannot be scored: {row['reason']}")
            continue
        say(
            f"{name}: {counted(row['n_regions'], 'region')} ({row['n_cached']:,} cached) at "
            f"{row['slide_mpp']:.4g} um/px from {row['mpp_source']}; "
            f"{row['reason'] or 'tissue found'}"
        )
