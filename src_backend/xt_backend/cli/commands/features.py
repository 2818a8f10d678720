"""``napari-xt features``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xt_backend.config import FeatureOptions

from .. import options as flags
from ..app import app
from ..console import note, print_json, progress_bar, say
from ..interrupt import listening
from ..rows import summary


@app.command()
def features(
    inputs: flags.Inputs,
    encoder: Annotated[str, typer.Option(help="timm name of a region encoder.")],
    out: Annotated[Path, typer.Option(help="Folder for one HDF5 file per slide.")],
    layout: Annotated[str | None, typer.Option(help="xt.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="pretrained, random (seeded) or a safetensors file [default: pretrained]."
        ),
    ] = None,
    model_mpp: flags.ModelMpp = None,
    region_px: Annotated[int | None, typer.Option(help="Side of a region [default: 256].")] = None,
    input_px: Annotated[
        int | None, typer.Option(help="Side of what the encoder takes [default: region size].")
    ] = None,
    tokens_per_region: Annotated[
        int | None, typer.Option(help="k of k x k tokens per region [default: 1].")
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="map, or cls or cls+mean where there is a class token [default: map]."),
    ] = None,
    slide_mpp: flags.SlideMpp = None,
    accept_objective_mpp: flags.AcceptObjectiveMpp = None,
    allow_upsample: flags.AllowUpsample = None,
    roi: flags.Roi = None,
    tissue: flags.Tissue = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    batch_size: flags.BatchSize = None,
    cache: flags.Cache = None,
    no_cache: flags.NoCache = None,
    stride: flags.Stride = None,
    workers: flags.Workers = None,
    max_failed_fraction: flags.MaxFailedFraction = None,
    max_pixels: flags.MaxPixels = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    json: flags.Json = False,
) -> int:
    """Export region features: one HDF5 file per slide, and slides.csv.

    A slide without tissue gives a valid file with 0 rows, a failed one no file.
    """
    given = {
        "layout": layout,
        "weights": weights,
        "model_mpp": model_mpp,
        "region_px": region_px,
        "input_px": input_px,
        "tokens_per_region": tokens_per_region,
        "pooling": pooling,
        "slide_mpp": slide_mpp,
        "accept_objective_mpp": accept_objective_mpp,
        "allow_upsample": allow_upsample,
        "roi": roi,
        "tissue": tissue,
        "device": device,
        "precision": precision,
        "batch_size": batch_size,
        "cache": cache,
        "no_cache": no_cache,
        "stride": stride,
        "workers": workers,
        "max_failed_fraction": max_failed_fraction,
        "max_pixels": max_pixels,
        "offline": offline,
    }
    chosen = flags.merge_options(FeatureOptions, config, given)
    from xt_backend.batch import FeatureBatch
    from xt_backend.outputs import slide_values

    batch = FeatureBatch(inputs, encoder, out, chosen)
    if not json:
        note(f"device: {batch.device.name}, {batch.device.precision} ({batch.device.reason})")
    with listening() as stop, progress_bar(not json) as bar:
        shown = bar.add_task("features", total=None)
        run = batch.run(
            lambda task, done, total: bar.update(
                shown, completed=done, total=total, description=task.name
            ),
            cancelled=stop,
        )
    if json:
        print_json({"out": str(out), "slides": [slide_values(row, ()) for row in run.rows]})
    else:
        for row in run.rows:
            say(f"{row.slide}: {summary(row)}")
    return stop.exit_code if run.interrupted else run.exit_code
