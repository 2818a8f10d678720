"""``napari-xt train``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.errors import UsageError
from xt_backend.wording import counted

from .. import options as flags
from ..app import command
from ..console import note, print_json, say, say_table
from ..licence import encoder_licence
from ..metrics import metrics_table, pixels_table
from ..progress import stage_bars


@command()
def train(
    slides: Annotated[Path | None, typer.Option(help="Folder of slides. Needed.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Model file to write, .safetensors; folders are made. Needed."),
    ] = None,
    annotations: flags.Annotations = None,
    labels: flags.Labels = None,
    val: Annotated[
        Path | None, typer.Option(help="Folder of validation slides [default: a share of slides].")
    ] = None,
    name: flags.Name = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, in order; annotations of others are left out "
            "[default: all annotated]."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="region, slide, dense or detection [default: region; slide with --labels]."
        ),
    ] = None,
    slide_head: Annotated[
        str | None, typer.Option(help="class-token or attention-mil [default: class-token].")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV slide,patient: a patient stays on one side.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Fit temperature and thresholds on so many folds by patient; the model itself "
            "learns from all slides."
        ),
    ] = None,
    region_encoder: Annotated[
        str | None, typer.Option(help="timm name [default: tf_efficientnet_lite0].")
    ] = None,
    pooling: flags.Pooling = None,
    weights: flags.Weights = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="mamba2, mamba, transformer-xl, hyper, attention or none [default: mamba2]."
        ),
    ] = None,
    model_mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the regions, um/px [default: 0.75].")
    ] = None,
    region_px: Annotated[
        int | None, typer.Option(help="Side of a region, px [default: 128].")
    ] = None,
    min_fraction: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=F", help="The true label is CLASS where it covers at least F."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the slides [default: 120].")
    ] = None,
    end_to_end: Annotated[
        bool | None, typer.Option("--end-to-end", help="Train the region encoder too.")
    ] = None,
    grad_ratio: Annotated[
        float | None,
        typer.Option(help="Share of the regions that teach the encoder [default: 0.5]."),
    ] = None,
    field_regions: Annotated[
        int | None,
        typer.Option(
            help="Learn from crops of N x N regions; 0 takes whole slides [default: 0; 8 for the "
            "tasks dense and detection]."
        ),
    ] = None,
    peak_radius_um: Annotated[
        float | None,
        typer.Option(help="Radius of an object, for task detection [default: 4]."),
    ] = None,
    stain: Annotated[
        str | None, typer.Option(help="Normalise the stain: macenko or reinhard.")
    ] = None,
    seed: flags.Seed = None,
    no_resume: Annotated[
        bool,
        typer.Option(
            "--no-resume", help="Start over, though a training that was broken off could go on."
        ),
    ] = False,
    slide_mpp: flags.SlideMpp = None,
    accept_objective_mpp: flags.AcceptObjectiveMpp = None,
    allow_upsample: flags.AllowUpsample = None,
    tissue: flags.Tissue = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    cache: flags.Cache = None,
    no_cache: flags.NoCache = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    json: flags.Json = False,
) -> None:
    """Train a model on annotated or labelled slides.

    On features that are encoded once and kept, or with --end-to-end on pixels. Started again, a
    training that was broken off goes on. Exit codes: 0 done; 2 bad usage; 3 no slide could be
    used, or the loss was not finite; 5 cannot write.
    """
    given = flags.given_flags(
        locals(),
        classes=flags.listed(classes),
        min_fraction=_fractions(min_fraction),
    )
    from xt_backend.model import read_card
    from xt_backend.training import TrainSpec
    from xt_backend.training import train as run

    spec, own = flags.merge_options(TrainSpec, config, given, flags.JsonOption)
    with stage_bars() as progress:
        result = run(spec, progress)
    if not result.is_main:
        return
    if own.json:
        print_json(result.to_dict())
        return
    for text in result.notes:
        note(text)
    learnt, n_val = counted(len(result.train_slides), "slide"), len(result.val_slides)
    if result.folds:
        say(f"Trained on {learnt}; in {result.folds} folds, each held out once:")
    else:
        say(f"Trained on {learnt}; on {n_val:,} kept back:")
    if result.pixels is not None:
        say_table(pixels_table(result.pixels, None))
        say("The regions themselves:")
    unit = "slide" if spec.task == "slide" else "region"
    say_table(metrics_table(result.context, result.region_only, unit))
    say(f"Licence of the region encoder: {encoder_licence(read_card(spec.out))}")
    say(f"Model: {spec.out}")


def _fractions(given: list[str] | None) -> dict[str, float] | None:
    if given is None:
        return None
    fractions = {}
    for item in given:
        name, _, value = item.partition("=")
        try:
            fractions[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(
                f"--min-fraction: '{item}' is not CLASS=F", "Write for example tumour=0.1"
            ) from error
    return fractions
