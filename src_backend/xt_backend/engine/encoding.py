"""How the encoder of a run is to compute, and what to do when that way turns out to be closed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.config import CommonOptions, EncodingOptions, cache_folder
from xt_backend.errors import DeviceError
from xt_backend.keys import RegionStatus
from xt_backend.model import XT, ReferenceXT, RegionEncoder
from xt_backend.slides import Reader

from .device import Device
from .encoders import EncoderChoice, Features, Judge, Pixels, choose_way, usual_way
from .encoders.choice import choice_key, keep_choice
from .preparation import Prepared

__all__ = [
    "judge_of",
    "kept_encoders",
    "remember_encoder",
    "sample_regions",
    "settle_encoder",
    "torch_instead",
]


def settle_encoder(
    region_encoder: RegionEncoder,
    what: dict[str, Any],
    device: Device,
    options: EncodingOptions,
    prepared: Prepared,
    n_regions: int,
    judge: Judge | None = None,
) -> EncoderChoice:
    """Choose the way to encode; see `choose_way`.

    Args:
        region_encoder: With the weights that will be used.
        what: The encoder and its weights, as plain data.
        device: Where it runs.
        options: What was asked for.
        prepared: A slide whose regions are tried.
        n_regions: To be encoded, about.
        judge: Gives the classes of features.

    Raises:
        DeviceError: What was asked for cannot be had.
        ModelError: The encoder's weights do not fit it.
    """
    return choose_way(
        region_encoder,
        what,
        device,
        options.encoder_backend,
        options.precision,
        n_regions=n_regions,
        sample=lambda n: sample_regions(prepared, n, options.workers),
        judge=judge,
        folder=kept_encoders(options),
    )


def remember_encoder(
    what: dict[str, Any], device: Device, options: EncodingOptions, choice: EncoderChoice
) -> None:
    """Let a model whose region encoder is another's encode as that one, without trying anew.

    Args:
        what: The new model, as plain data.
        device: Where it runs.
        options: What is asked for.
        choice: That of the other model; one that was not measured holds for any model.
    """
    if choice.tried:
        key = choice_key(what, device, options.encoder_backend, options.precision)
        keep_choice(key, choice)


def torch_instead(choice: EncoderChoice, device: Device, closed: DeviceError) -> EncoderChoice:
    """The choice of a run that has encoded nothing yet, when the way that was chosen is closed."""
    return replace(choice, way=usual_way(device), reason=closed.cause)


def sample_regions(prepared: Prepared, n: int, workers: int = 2) -> Pixels:
    """Readable regions from all over the selection, as the encoder would get them.

    Args:
        prepared: A slide with its regions.
        n: As many at most.
        workers: Reader threads.

    Returns:
        (n or fewer, R, R, 3) uint8.
    """
    cells = prepared.cells
    rows = np.unique(np.linspace(0, len(cells) - 1, min(n, len(cells))).round().astype(int))
    side = prepared.lattice.region_px
    parts = [np.empty((0, side, side, 3), np.uint8)]
    with Reader(
        prepared.slide, prepared.lattice, cells[rows], batch_size=16, threads=workers
    ) as reader:
        for batch in reader:
            pixels = batch.pixels[batch.status != RegionStatus.READ_ERROR]
            if prepared.normaliser is not None and len(pixels):
                pixels = prepared.normaliser(pixels)
            parts.append(pixels)
    return np.concatenate(parts)


def judge_of(model: XT | ReferenceXT) -> Judge | None:
    """What a model says of each region alone; None where it says nothing."""
    if not isinstance(model, XT):
        return None

    def judge(features: Features) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            tokens = model.reduce(torch.from_numpy(features).to(model.device, torch.float32))
            return np.asarray(model.region_only(tokens).cpu().numpy(), np.float32)

    return judge


def kept_encoders(options: CommonOptions) -> Path | None:
    """Where encoders that took long to make are kept; None keeps none."""
    if not options.use_cache:
        return None
    return (options.cache or cache_folder()) / "encoders"
