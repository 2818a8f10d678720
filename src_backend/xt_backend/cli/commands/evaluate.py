"""``napari-xt evaluate``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options as flags
from ..app import command
from ..console import print_json, say, say_table
from ..metrics import metrics_table, pixels_table
from ..progress import stage_bars


@command()
def evaluate(
    model: Annotated[
        str | None, typer.Option(help="Name of a known model, or a model file. Needed.")
    ] = None,
    slides: Annotated[Path | None, typer.Option(help="Folder of slides. Needed.")] = None,
    annotations: flags.Annotations = None,
    leave_out: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated classes of annotations that the model does not know: "
            "they are not judged."
        ),
    ] = None,
    labels: flags.Labels = None,
    compare_context: Annotated[
        bool | None,
        typer.Option("--compare-context", help="Also measure the region-only head."),
    ] = None,
    distance_um: Annotated[
        float | None,
        typer.Option(help="A point within so many um has found its object [default: the model's]."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics.json, predictions.csv and two pictures."),
    ] = None,
    ordered: Annotated[
        bool | None,
        typer.Option("--ordered", help="The classes have an order: also quadratic kappa."),
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV slide,patient: intervals by drawing patients.")
    ] = None,
    bootstrap: Annotated[
        int | None, typer.Option(help="Resamples behind the intervals [default: 1000].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the resampling [default: 0].")] = None,
    slide_mpp: flags.SlideMpp = None,
    model_mpp: flags.ModelMpp = None,
    accept_objective_mpp: flags.AcceptObjectiveMpp = None,
    allow_upsample: flags.AllowUpsample = None,
    tissue: flags.Tissue = None,
    device: flags.Device = None,
    encoder_backend: Annotated[
        str | None,
        typer.Option(help="torch, or openvino-int8 to see what is lost by it [default: torch]."),
    ] = None,
    cache: flags.Cache = None,
    no_cache: flags.NoCache = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    json: flags.Json = False,
) -> int:
    """Measure a model on annotated or labelled slides.

    Every number has its 95 % interval. Exit codes: 0 all were judged; 2 bad usage; 3 some slides
    or regions could not be judged.
    """
    given = flags.given_flags(
        locals(),
        leave_out=flags.listed(leave_out),
    )
    from xt_backend.training import EvaluateSpec
    from xt_backend.training import evaluate as run

    spec, own = flags.merge_options(EvaluateSpec, config, given, flags.JsonOption)
    with stage_bars() as progress:
        report = run(spec, progress)
    if own.json:
        print_json(report.to_dict())
    else:
        for text in report.notes:
            say(text)
        for slide, reason in report.failed.items():
            say(f"{slide}: FAILED: {reason}")
        if report.pixels is not None:
            say_table(pixels_table(report.pixels, report.region_only_pixels))
            say("The regions themselves:")
        unit = "region" if spec.labels is None else "slide"
        say_table(metrics_table(report.context, report.region_only, unit))
        if spec.out is not None:
            say(f"Files: {spec.out}")
    return 0 if report.complete else 3
