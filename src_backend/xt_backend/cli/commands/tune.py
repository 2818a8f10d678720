"""``napari-xt tune``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.errors import UsageError
from xt_backend.wording import counted

from .. import options as flags
from ..app import command
from ..console import print_json, say
from ..interrupt import listening
from ..progress import stage_bars


@command()
def tune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or file of a region model.")],
    slides: Annotated[
        Path | None, typer.Option(help="A corrected slide, or a folder of them. Needed.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Model file to write, .safetensors; never an old one. Needed."),
    ] = None,
    annotations: flags.Annotations = None,
    name: flags.Name = None,
    learns: Annotated[
        str | None,
        typer.Option(help="head, or context: the context encoder too [default: head]."),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            help="What the model's own opinion counts of everything that was not corrected; 0 lets "
            "it forget [default: 1]."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of what learns [default: 300; 16 of the context].")
    ] = None,
    seed: flags.Seed = None,
    slide_mpp: flags.SlideMpp = None,
    accept_objective_mpp: flags.AcceptObjectiveMpp = None,
    allow_upsample: flags.AllowUpsample = None,
    roi: flags.Roi = None,
    tissue: flags.Tissue = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    cache: flags.Cache = None,
    no_cache: flags.NoCache = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    json: flags.Json = False,
) -> int:
    """Correct a model on slides where it was wrong.

    Starts from the model's weights and from features that are stored; regions that nobody
    corrected keep what the model said of them. Exit codes: 0 done; 2 bad usage; 3 a slide could
    not be used; 5 cannot write; 130 and 143 interrupted.
    """
    given = flags.given_flags(locals(), "slides", "annotations")
    from xt_backend.training.tuning import TuneSpec, corrections_in
    from xt_backend.training.tuning import tune as run

    if slides is None:
        raise UsageError("Missing option --slides", "Give the corrected slide or slides")
    given["corrections"] = corrections_in(slides, annotations)
    spec, own = flags.merge_options(TuneSpec, config, given, flags.JsonOption)
    with listening() as stop, stage_bars() as progress:
        result = run(spec, progress, stop)
    if result is None:
        return stop.exit_code
    if own.json:
        print_json(result.to_dict())
        return 0
    for note in result.notes:
        say(note)
    change = result.change
    for one, n in change.corrected.items():
        if n:
            before, after = change.right_before[one], change.right_after[one]
            say(f"{one}: {counted(n, 'corrected region')}, right before {before:,}, now {after:,}")
    say(
        f"Of {counted(change.others, 'region')} that nobody corrected, {change.others_changed:,} "
        "have another label now."
    )
    say(f"Model: {spec.out}")
    return 0
