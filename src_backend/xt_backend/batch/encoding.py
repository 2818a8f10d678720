"""How a whole batch encodes: chosen once, before its first slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt_backend.config import EncodingOptions
from xt_backend.engine import (
    ENOUGH_REGIONS,
    Device,
    EncoderChoice,
    Judge,
    Way,
    check_backend,
    known_choice,
    lattice_of,
    prepare,
    settle_encoder,
)
from xt_backend.errors import StoreError, XTError
from xt_backend.keys import RunFile
from xt_backend.model import RegionEncoder, StainInfo
from xt_backend.outputs import read_json
from xt_backend.slides import open_slide

from .task import Task

__all__ = ["Encodes", "batch_choice", "unusual_way"]

_LOOKED_AT = 3
"""Slides that are tried until one can be read."""


@dataclass(frozen=True)
class Encodes:
    """What a batch encodes with.

    Attributes:
        what: The encoder and its weights, as plain data.
        model_mpp: um/px.
        region_px: Side of a region at `model_mpp`.
        stain: To which slides are brought.
        load: Gives the encoder, and what tells the classes of features.
    """

    what: dict[str, Any]
    model_mpp: float
    region_px: int
    stain: StainInfo | None
    load: Callable[[], tuple[RegionEncoder, Judge | None]]


def batch_choice(
    encodes: Encodes,
    tasks: Sequence[Task],
    options: EncodingOptions,
    device: Device,
    out: Path | None,
    *,
    try_out: bool = True,
) -> EncoderChoice:
    """The way to encode; a batch that is resumed goes on as it began.

    Args:
        encodes: The encoder.
        tasks: Of the batch.
        options: Of the batch.
        device: Where it runs.
        out: Run directory.
        try_out: False measures nothing.

    Raises:
        DeviceError: The backend that was asked for cannot be had.
    """
    asked = options.encoder_backend
    known = known_choice(encodes.what, device, asked, options.precision)
    before = _way_of(out, device)
    # What was asked for now comes first; the folder is then refused where it holds something else.
    suits = before is not None and options.precision in ("auto", before.precision)
    if asked == "auto" and before is not None and suits:
        if before.backend == "openvino" and device.kind != "cpu":
            check_backend(before.backend, device)
        if known is not None and known.way == before:
            return known
        return EncoderChoice(before, "as this run began")
    if known is not None:
        return known
    usual = EncoderChoice(
        Way("torch", device.precision),
        f"nothing was tried for fewer than {ENOUGH_REGIONS:,} regions",
    )
    for task in [task for task in tasks if not task.source.problem][: _LOOKED_AT * try_out]:
        own = task.own_options(options)
        try:
            if asked == "auto" and _most_regions(task, own, encodes) * len(tasks) < ENOUGH_REGIONS:
                continue
            prepared = prepare(
                task.source.path, encodes.model_mpp, encodes.region_px, own, encodes.stain
            )
        except XTError:
            continue  # told in its row
        with prepared.slide:
            n_regions = len(prepared.cells) * len(tasks)
            if not len(prepared.cells) or (asked == "auto" and n_regions < ENOUGH_REGIONS):
                continue
            net, judge = encodes.load()
            return settle_encoder(net, encodes.what, device, own, prepared, n_regions, judge)
    return usual


def unusual_way(choice: EncoderChoice, device: Device) -> dict[str, Any]:
    """What a configuration says of the way to encode: nothing where it is torch as usual."""
    if choice.way == Way("torch", device.precision):
        return {}
    return {"encoder": choice.way.to_dict()}


def _way_of(out: Path | None, device: Device) -> Way | None:
    """How the run in a folder encodes; None where there is none that can be read."""
    if out is None or not (out / RunFile.RUN_JSON).is_file():
        return None
    try:
        configuration = read_json(out / RunFile.RUN_JSON)["configuration"]
        if "encoder" not in configuration:
            return Way("torch", device.precision)
        return Way.from_dict(configuration["encoder"])
    except (StoreError, KeyError, TypeError, ValueError):
        return None  # refused in a moment, with a reason


def _most_regions(task: Task, options: EncodingOptions, encodes: Encodes) -> int:
    """Regions of a slide if all of it were tissue; quick to say."""
    with open_slide(
        task.source.path, options.slide_mpp, accept_objective_mpp=options.accept_objective_mpp
    ) as slide:
        lattice = lattice_of(slide, encodes.model_mpp, encodes.region_px, options.stride_px)
        return lattice.n_cols * lattice.n_rows
