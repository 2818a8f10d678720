"""A corrected slide: its features, what was corrected, and what the model said before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.engine import (
    BatchEncoder,
    Device,
    EncoderChoice,
    Prepared,
    Way,
    extract,
    judge_of,
    prepare,
    settle_encoder,
)
from xt_backend.engine.collection import check_failures
from xt_backend.engine.source import Source, open_source
from xt_backend.errors import AnnotationError
from xt_backend.keys import RegionStatus
from xt_backend.model import XT
from xt_backend.slides import read_shapes

from ..annotations import AnnotatedSlide, listed
from ..augment import View
from ..events import Progress
from ..truth import Truth, read_truth
from .spec import Correction, TuneSpec

__all__ = ["CorrectedField", "load_corrected"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CorrectedField:
    """The N regions of one slide that could be read, in reading order.

    Attributes:
        name: The slide's file name.
        identity: Of the slide's content.
        view: Whitened tokens, places and corrected labels; weight 0 where nothing was corrected.
        true: (N,) int64 corrected labels; only those with a weight mean something.
        logits: (N, C) float32 of the model before the tuning.
        region_only_logits: (N, C) float32 of its region-only head.
        context_tokens: (N, dim) float32, what its head reads.
        choice: How the slide's regions were encoded.
        notes: What the user should know.
    """

    name: str
    identity: str
    view: View
    true: npt.NDArray[np.int64]
    logits: Floats
    region_only_logits: Floats
    context_tokens: Floats
    choice: EncoderChoice
    notes: tuple[str, ...]

    @property
    def corrected(self) -> npt.NDArray[np.bool_]:
        """(N,) where somebody said what it is."""
        return np.asarray(self.view.weights > 0)


def load_corrected(
    correction: Correction,
    model: XT,
    device: Device,
    spec: TuneSpec,
    encoder_of: Callable[[Way], BatchEncoder],
) -> Iterator[Progress | CorrectedField]:
    """Take a slide's features from the region store, or encode them, and label the corrections.

    Args:
        correction: The slide and what was corrected on it.
        model: As it is before the tuning, on `device`.
        device: Where.
        spec: Of the tuning.
        encoder_of: The model's encoder, computed in some way.

    Yields:
        `Progress` after every batch, at last the field.

    Raises:
        SlideError: The slide cannot be used.
        AnnotationError: The corrections cannot be used, or cover no region enough.
    """
    card, options = model.card, spec.options_for(correction)
    name = correction.slide.name
    yield Progress("slides", 0, 0, f"{name}: reading the corrections")
    prepared = prepare(correction.slide, card.mpp(), card.scored_px, options, card.stain)
    with prepared.slide:
        source = _open(prepared, model, device, options, encoder_of)
        annotated = AnnotatedSlide(correction.slide, correction.annotations)
        truth = read_truth(annotated, prepared, card).truth
        notes = [*_unknown(annotated, card.class_names), *source.problems]
        _check(truth, name, card.label_rule.min_annotated_fraction)
        status = np.full(len(prepared.cells), RegionStatus.SKIPPED, np.uint8)
        tokens: torch.Tensor | None = None
        done = 0
        for part in extract(
            prepared.slide,
            prepared.lattice,
            prepared.cells,
            source.encoder,
            source.store,
            workers=options.workers,
            batch_size=options.batch_size,
            normalise=prepared.normaliser,
        ):
            good = part.status != RegionStatus.READ_ERROR
            status[part.rows] = part.status
            if good.any():
                with torch.inference_mode():
                    features = torch.from_numpy(part.features[good])
                    white = model.reduce(features.to(model.device, torch.float32)).cpu()
                if tokens is None:
                    tokens = torch.zeros((len(status), *white.shape[1:]))
                tokens[torch.from_numpy(part.rows[good])] = white
            done += len(part.rows)
            yield Progress("encode", done, len(status), name)
        check_failures(status, name, options.max_failed_fraction)
        identity = prepared.slide.identity()
        positions_um = prepared.lattice.centres_um(prepared.cells)
    read = (status == RegionStatus.OK) | (status == RegionStatus.EDGE)
    if tokens is not None:
        read &= tokens.isfinite().flatten(1).all(dim=1).numpy()
    if tokens is None or not (truth.known & read).any():
        raise AnnotationError(
            f"{name}: none of the corrected regions could be read", "Correct other regions"
        )
    truth, places = truth[read], positions_um[read]
    white = tokens[torch.from_numpy(read)]
    with torch.inference_mode():
        before = model.predict_reduced(white, torch.from_numpy(places))
    yield CorrectedField(
        name,
        identity,
        View(white.numpy(), places, truth.soft, truth.weights),
        truth.true,
        before.logits.cpu().numpy(),
        before.region_only_logits.cpu().numpy(),
        before.context_tokens.cpu().numpy(),
        source.choice,
        (*notes, *source.problems),
    )


def _open(
    prepared: Prepared,
    model: XT,
    device: Device,
    options: TuneSpec,
    encoder_of: Callable[[Way], BatchEncoder],
) -> Source:
    """The region store of a run with this model, and its encoder for what is not there."""
    what = {"model": model.card.state_sha256}
    choice = settle_encoder(
        model.region_encoder, what, device, options, prepared, len(prepared.cells), judge_of(model)
    )

    return open_source(prepared, choice, device, options, encoder_of)


def _check(truth: Truth, name: str, least: float) -> None:
    if not truth.known.any():
        raise AnnotationError(
            f"{name}: the corrections cover no region of tissue to at least {least:.0%}",
            "Correct whole regions, inside the area that is scored",
        )


def _unknown(annotated: AnnotatedSlide, classes: tuple[str, ...]) -> list[str]:
    """Notes of what was drawn with classes that the model does not know.

    Raises:
        AnnotationError: There is nothing else.
    """
    names = [shape.name for shape in read_shapes(annotated.annotations)]
    unknown = sorted({name or "no class" for name in names if name not in classes})
    if unknown and len(unknown) == len({name or "no class" for name in names}):
        raise AnnotationError(
            f"{annotated.annotations.name} names none of the model's classes, only "
            f"{listed(unknown)}",
            f"Name them as the model does: {listed(classes)}",
        )
    if not unknown:
        return []
    return [f"{annotated.name}: left out, as the model does not know it: {listed(unknown)}"]
