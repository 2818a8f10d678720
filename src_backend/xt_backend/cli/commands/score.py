"""``napari-xt score``"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias, get_args

import typer

from xt_backend.config import ScoreOptions
from xt_backend.errors import UsageError
from xt_backend.keys import SlideStatus

from .. import options as flags
from ..app import command
from ..batch_run import run_batch, tell_plan
from ..dry_lines import show_dry_run
from ..engine import (
    Address,
    Engine,
    EngineFlags,
    GiveUpAfter,
    Isolate,
    Processes,
    Slurm,
    engine_options,
)
from ..repeated import repeated


@dataclass(frozen=True, kw_only=True)
class _Own(EngineFlags):
    model: str
    dry_run: bool = False
    retry_failed: bool = False


# As of other commands, but left out beside --repeat.
_Inputs: TypeAlias = Annotated[list[Path] | None, get_args(flags.Inputs)[1]]


@command()
def score(
    inputs: _Inputs = None,
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
        typer.Option(
            metavar="KIND",
            help="Files beside the usual ones: parquet, or report (HTML); may be given twice.",
        ),
    ] = None,
    exclude_flagged: flags.ExcludeFlagged = None,
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
    pseudonymise: flags.Pseudonymise = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    repeat: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN.JSON",
            help="Do an earlier run again, exactly: its slides, model and options.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and what it would take.")
    ] = False,
    retry_failed: flags.RetryFailed = False,
    engine: Engine = None,
    processes: Processes = None,
    address: Address = None,
    slurm: Slurm = None,
    isolate: Isolate = None,
    give_up_after: GiveUpAfter = None,
    json: flags.Json = False,
) -> int:
    """Score slides: a row in slides.csv for every input, and files.

    Exit codes: 0 all done; 2 bad usage; 3 finished, but some slides failed or hold NaN;
    5 cannot write; 130 and 143 interrupted. With --dry-run, 3 if some slides would fail.
    """
    given = flags.given_flags(
        locals(),
        "inputs",
        "repeat",
        context=None if context is None else flags.on_off("--context", context),
    )
    again = None if repeat is None else repeated(repeat, inputs, config, given)
    chosen, own = flags.merge_options(ScoreOptions, config, given, _Own)
    wanted = engine_options(own)
    if own.isolate and own.dry_run:
        raise UsageError(
            "--dry-run looks at the slides in this process, and --isolate forbids that",
            "Leave one of them out",
        )
    from xt_backend.batch import Batch, preview

    plan = partial(
        Batch,
        (inputs or []) if again is None else again.inputs,
        own.model,
        own.out,
        chosen,
        dry_run=own.dry_run,
        retry_failed=own.retry_failed,
        arguments=sys.argv,
        repeated=None if again is None else again.configuration,
    )
    if not own.dry_run:
        return run_batch(wanted, chosen, plan, own)
    batch = plan()  # on this machine, whoever is to work on it
    tell_plan(batch)
    look = preview(batch)
    show_dry_run(look, batch.inputs, own.json)
    return 3 if any(row["status"] == SlideStatus.FAILED for row in look.rows) else 0
