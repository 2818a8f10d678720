"""How a whole batch encodes: chosen once, before its first slide."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt_backend.config import EncodingOptions
from xt_backend.engine import (
    ENOUGH_REGIONS,
    BatchEncoder,
    Device,
    EncoderChoice,
    Judge,
    Way,
    check_backend,
    kept_encoders,
    known_choice,
    lattice_of,
    prepare,
    settle_encoder,
    torch_instead,
    usual_way,
)
from xt_backend.errors import DeviceError, ModelError, StoreError, UsageError
from xt_backend.keys import RunFile
from xt_backend.model import RegionEncoder, StainInfo
from xt_backend.outputs import read_json
from xt_backend.slides import open_slide

from .plan import Task

__all__ = ["Encodes", "batch_encoder"]

_log = logging.getLogger(__name__)

_LOOKED_AT = 3
"""Slides that are tried until one can be used."""


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


def batch_encoder(
    encodes: Encodes,
    tasks: Sequence[Task],
    options: EncodingOptions,
    device: Device,
    out: Path | None,
    *,
    dry_run: bool = False,
    isolate: bool = False,
    repeated: Mapping[str, Any] | None = None,
) -> tuple[EncoderChoice, BatchEncoder | None]:
    """The way to encode, for all of a batch, and the encoder that computes so.

    A batch that is resumed goes on as it began, and one that is repeated does as it did. A way
    that is chosen now is tried to the end, and torch taken where it turns out to be closed; one
    that was known is opened by the first slide that has to be encoded, so that a batch of
    stored features waits for nothing.

    Args:
        encodes: The encoder.
        tasks: Of the batch.
        options: Of the batch.
        device: Where it runs.
        out: Run directory.
        dry_run: Measure nothing, and prepare nothing.
        isolate: Open no slide here: what is not known already is not tried.
        repeated: Configuration of an earlier run that is done again.

    Returns:
        The encoder is None for torch as usual, which is not worth a trial.

    Raises:
        DeviceError: The backend that was asked for, or with which the run began, cannot be had.
        UsageError: It would have to be tried on a slide, and none may be opened.
        ModelError: The encoder's weights do not fit it.
    """
    before = _began_with(options, device, out, repeated)
    if before is None:
        known = known_choice(encodes.what, device, options.encoder_backend, options.precision)
        if isolate and known is None:
            known = _untried(options, device)
        choice = known or _tried(encodes, tasks, options, device, dry_run)
        try:
            encoder = _made(encodes, choice.way, device, options)
            if encoder is not None and known is None:
                encoder.prepare()
        except DeviceError as error:
            return torch_instead(choice, device, error), None
        return choice, encoder
    run, elsewhere = f"The run in {out}", ", or choose another folder"
    if repeated is not None:
        run, elsewhere = "The earlier run", ""
    try:
        check_backend(before.backend, device)
        known = known_choice(encodes.what, device, options.encoder_backend, options.precision)
    except DeviceError as error:
        raise _refused(run, before, error, elsewhere) from error
    try:
        encoder = _made(encodes, before, device, options)
    except DeviceError as error:  # names another folder itself
        raise _refused(run, before, error) from error
    if known is None or known.way != before:
        known = EncoderChoice(
            before, f"as {'this' if repeated is None else 'the earlier'} run began"
        )
    return known, encoder


def _refused(run: str, way: Way, error: DeviceError, more: str = "") -> DeviceError:
    return DeviceError(
        f"{run} began with {way} and goes on with nothing else: {error.cause}",
        f"{error.way_out}{more}",
    )


def _made(
    encodes: Encodes, way: Way, device: Device, options: EncodingOptions
) -> BatchEncoder | None:
    if way == usual_way(device):
        return None
    return BatchEncoder(encodes.load()[0], device, way, kept_encoders(options))


def _untried(options: EncodingOptions, device: Device) -> EncoderChoice:
    """Torch as usual, where nothing may be tried."""
    if options.encoder_backend not in ("auto", "torch"):
        raise UsageError(
            f"--encoder-backend {options.encoder_backend} has to be tried on a slide first, which "
            "--isolate leaves to processes that may die",
            "Take a slide that you trust once without --isolate, or write --encoder-backend torch",
        )
    return EncoderChoice(usual_way(device), "nothing was tried, since slides are isolated")


def _tried(
    encodes: Encodes,
    tasks: Sequence[Task],
    options: EncodingOptions,
    device: Device,
    dry_run: bool,
) -> EncoderChoice:
    """What is found on the first slide on which ways can be tried."""
    asked = options.encoder_backend
    usual = usual_way(device)
    found: EncoderChoice | None = None
    reason = f"nothing was tried for fewer than {ENOUGH_REGIONS:,} regions"
    sound = [task for task in tasks if not task.source.problem]
    for task in [] if dry_run else sound[:_LOOKED_AT]:
        own = task.own_options(options)
        try:
            if asked == "auto" and _most_regions(task, own, encodes) * len(tasks) < ENOUGH_REGIONS:
                continue
            prepared = prepare(
                task.source.path, encodes.model_mpp, encodes.region_px, own, encodes.stain
            )
        except (DeviceError, ModelError):
            raise  # as with any other slide
        except Exception:
            _log.debug("a slide cannot be tried", exc_info=True)  # told in its row
            reason = "no slide could be read to try others"
            continue
        with prepared.slide:
            n_regions = len(prepared.cells) * len(tasks)
            if not len(prepared.cells) or (asked == "auto" and n_regions < ENOUGH_REGIONS):
                continue
            net, judge = encodes.load()
            found = settle_encoder(net, encodes.what, device, own, prepared, n_regions, judge)
        if found.tried:
            break  # else its regions could not be read, or broke what was tried
    return found or EncoderChoice(usual, reason)


def _began_with(
    options: EncodingOptions, device: Device, out: Path | None, repeated: Mapping[str, Any] | None
) -> Way | None:
    """How the run in a folder, or the repeated one, encodes; None where none can go on so."""
    try:
        if repeated is not None:
            configuration = repeated
        elif out is not None and (out / RunFile.RUN_JSON).is_file():
            configuration = read_json(out / RunFile.RUN_JSON)["configuration"]
        else:
            return None
        if "encoder" in configuration:
            way = Way.from_dict(configuration["encoder"])
        else:
            way = usual_way(device)
    except (StoreError, KeyError, TypeError, ValueError):
        return None  # refused in a moment, with a reason
    if repeated is not None:
        return way
    # What is asked for now comes first: the folder is then refused where it holds something else.
    asked = options.encoder_backend
    suits = asked == "auto" or asked == way.backend == "openvino"
    return way if suits and options.precision in ("auto", way.precision) else None


def _most_regions(task: Task, options: EncodingOptions, encodes: Encodes) -> int:
    """Regions of a slide if all of it were tissue; quick to say."""
    with open_slide(
        task.source.path, options.slide_mpp, accept_objective_mpp=options.accept_objective_mpp
    ) as slide:
        lattice = lattice_of(slide, encodes.model_mpp, encodes.region_px, options.stride_px)
        return lattice.n_cols * lattice.n_rows
