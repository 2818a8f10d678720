"""``napari-xt features``"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from xt_backend.config import FeatureOptions

from .. import options as flags
from ..app import command
from ..batch_run import run_batch
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


@dataclass(frozen=True, kw_only=True)
class _Own(EngineFlags):
    encoder: str
    retry_failed: bool = False


@command()
def features(
    inputs: flags.Inputs,
    encoder: Annotated[
        str | None, typer.Option(help="timm name of a region encoder. Needed.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files of the layout. Needed.")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Of the files: xt, trident, clam, stamp, slide2vec, h5ad, parquet or h5 "
            "[default: xt]."
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(help="region, or slide: the mean of its regions [default: region]."),
    ] = None,
    weights: flags.Weights = None,
    model_mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the regions, um/px [default: 0.5].")
    ] = None,
    region_px: Annotated[
        int | None, typer.Option(help="Side of a region, px [default: 256].")
    ] = None,
    input_px: Annotated[
        int | None, typer.Option(help="Side of what the encoder takes [default: region size].")
    ] = None,
    tokens_per_region: Annotated[
        int | None, typer.Option(help="k of k x k tokens per region [default: 1].")
    ] = None,
    pooling: flags.Pooling = None,
    slide_mpp: flags.SlideMpp = None,
    accept_objective_mpp: flags.AcceptObjectiveMpp = None,
    allow_upsample: flags.AllowUpsample = None,
    roi: flags.Roi = None,
    tissue: flags.Tissue = None,
    device: flags.Device = None,
    precision: flags.Precision = None,
    encoder_backend: flags.EncoderBackend = None,
    batch_size: flags.BatchSize = None,
    cache: flags.Cache = None,
    no_cache: flags.NoCache = None,
    stride: flags.Stride = None,
    workers: flags.Workers = None,
    max_failed_fraction: flags.MaxFailedFraction = None,
    max_pixels: flags.MaxPixels = None,
    offline: flags.Offline = None,
    config: flags.Config = None,
    retry_failed: flags.RetryFailed = False,
    engine: Engine = None,
    processes: Processes = None,
    address: Address = None,
    slurm: Slurm = None,
    isolate: Isolate = None,
    give_up_after: GiveUpAfter = None,
    json: flags.Json = False,
) -> int:
    """Export region features in the layout of a tool, and slides.csv.

    A slide without tissue gives a valid file with 0 rows, a failed one no file. Exit codes as of
    `score`.
    """
    given = flags.given_flags(locals(), "inputs")
    chosen, own = flags.merge_options(FeatureOptions, config, given, _Own)
    from xt_backend.batch import FeatureBatch

    plan = partial(
        FeatureBatch, inputs, own.encoder, own.out, chosen, retry_failed=own.retry_failed
    )
    return run_batch(engine_options(own), chosen, plan, own)
