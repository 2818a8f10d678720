"""From corrections to a new model file."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from xt_backend.engine import BatchEncoder, Way, choose_device, kept_encoders, remember_encoder
from xt_backend.errors import ModelError, OutputConflictError, UsageError
from xt_backend.model import XT, ModelCard, find_model, load_model, read_card, save_model
from xt_backend.store import make_folder

from ..annotations import pair_slides
from ..events import Progress, ProgressCallback, ignore
from ..fit import one_thread
from ..trainer import repeatable
from .fields import CorrectedField, load_corrected
from .fitting import fit, usual_steps
from .report import measure_change, tuned_card
from .result import TuneResult
from .spec import Correction, TuneSpec

__all__ = ["check_model", "corrections_in", "tune", "tuning"]

TELL_S = 0.2
"""Steps are told at most this often."""


def check_model(card: ModelCard) -> None:
    """Refuse models whose answers cannot be corrected region by region.

    Raises:
        ModelError: It is of another task or layout.
    """
    if card.layout != "napari-xt":
        raise ModelError(
            f"{card.name} is a converted checkpoint, which predicts crops and cannot be corrected",
            "Choose a model that was trained with napari-xt",
        )
    if card.task == "slide":
        raise ModelError(
            f"{card.name} says one thing of a whole slide: there is no region to correct",
            "Choose a model of regions, or train one with napari-xt train --labels",
        )
    if card.task != "region":
        raise ModelError(
            f"{card.name} draws {'points' if card.task == 'detection' else 'masks'}, which do not "
            "follow corrected regions",
            f"Train it with the corrections: napari-xt train --task {card.task}",
        )


def tuning(spec: TuneSpec) -> Generator[Progress | TuneResult, None, None]:
    """Tune a model, step by step; left before its end, it writes nothing.

    The same corrections, spec, machine and versions give the same file.

    Yields:
        `Progress`, at last the result.

    Raises:
        UsageError: The model cannot be corrected, or `out` is there already.
        AnnotationError: Corrections cannot be used.
        SlideError: A slide cannot be read.
        LossNotFiniteError: The loss became NaN.
        OutputError: The model cannot be written.
    """
    started = time.perf_counter()
    _check_out(spec.out)
    path = find_model(spec.model)
    check_model(read_card(path))
    yield Progress("slides", 0, len(spec.corrections), "loading the model")
    device = choose_device(spec.device, spec.precision)
    model = load_model(path, offline=spec.offline or None)
    if not isinstance(model, XT):
        raise TypeError("a model of this layout is an XT")
    model = model.to(device.name)
    parent = model.card

    @functools.cache
    def encoder_of(way: Way) -> BatchEncoder:
        return BatchEncoder(model.region_encoder, device, way, kept_encoders(spec))

    fields: list[CorrectedField] = []
    for correction in spec.corrections:
        for told in load_corrected(correction, model, device, spec, encoder_of):
            if isinstance(told, CorrectedField):
                fields.append(told)
            else:
                yield told
    fit_started = time.perf_counter()
    losses: list[float] = []
    fitted = _fitted(model, fields, spec, losses)
    with repeatable(spec.seed), one_thread(), closing(fitted) as steps:
        yield from steps
    seconds_fit = time.perf_counter() - fit_started
    change = measure_change(model, fields)
    model.card = tuned_card(parent, spec, change, fields)
    make_folder(spec.out.parent)
    _check_out(spec.out)  # somebody else may have taken the name meanwhile
    card = save_model(model, spec.out)
    # Its region encoder is that of the parent: what is stored is found by a run with either.
    for one in fields:  # the first may have been too small for a choice
        remember_encoder({"model": card.state_sha256}, device, spec, one.choice)
    seconds = {"fit": seconds_fit, "total": time.perf_counter() - started}
    notes = tuple(note for one in fields for note in one.notes)
    yield TuneResult(spec.out, card, change, tuple(losses), seconds, notes)


def _fitted(
    model: XT, fields: Sequence[CorrectedField], spec: TuneSpec, losses: list[float]
) -> Generator[Progress, None, None]:
    total, told = usual_steps(spec), 0.0
    for loss in fit(model, fields, spec):
        losses.append(loss)
        now = time.monotonic()
        if now - told >= TELL_S or len(losses) == total:
            told = now
            yield Progress("train", len(losses), total, f"loss {loss:.3f}", {"loss": loss})


def tune(
    spec: TuneSpec,
    progress: ProgressCallback = ignore,
    cancelled: Callable[[], bool] = lambda: False,
) -> TuneResult | None:
    """Tune a model: the command ``napari-xt tune``.

    Args:
        spec: What to learn from and how.
        progress: Told about every slide and about the steps.
        cancelled: Asked between them.

    Returns:
        The result; None where it was cancelled, which leaves nothing behind.

    Raises:
        XTError: As of `tuning`.
    """
    with closing(tuning(spec)) as steps:
        for told in steps:
            if isinstance(told, TuneResult):
                return told
            progress(told)
            if cancelled():
                return None
    raise RuntimeError("a tuning ended without a result")


def corrections_in(slides: Path, annotations: Path | None = None) -> tuple[Correction, ...]:
    """The slides of a folder with their annotations, as training pairs them.

    Raises:
        InputNotFoundError: A folder does not exist.
        AnnotationError: Slides without annotations.
    """
    pairs = pair_slides(slides, [annotations or slides])
    return tuple(Correction(slide=one.path, annotations=one.annotations) for one in pairs)


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"{out.name} is no name of a model file", "Let --out end in .safetensors")
    if out.exists():
        raise OutputConflictError(
            f"{out.name} is there already", "Choose another name: no model is overwritten"
        )
