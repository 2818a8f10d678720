"""What a tuning is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from xt_backend.config import EncodingOptions, Options

__all__ = ["Correction", "TuneSpec"]


class Correction(Options):
    """What somebody corrected on one slide, and how that slide is read.

    Attributes:
        slide: Slide file or DICOM folder.
        annotations: QuPath GeoJSON, as training reads it.
        slide_mpp: As of `CommonOptions`, and so are the others.
        tissue: As there.
        roi: As there.
    """

    slide: Path
    annotations: Path
    slide_mpp: float | None = None
    tissue: str | None = None
    roi: Path | dict[str, Any] | None = None


class TuneSpec(EncodingOptions):
    """One tuning of a model on corrected slides.

    Attributes:
        model: Name of a known model or a model file, of task ``region``.
        corrections: By slide; what they say of a slide wins over the options for all.
        out: Model file to write, ``.safetensors``; must not be there yet.
        name: The model's name; the stem of `out` when None.
        learns: ``head``: only what reads the tokens after context, and the region-only head.
            ``context``: then the context encoder too. The region encoder never.
        steps: Of the optimiser, for what `learns` names; None for as many as are usual.
        lr: Largest learning rate of these steps; None for the usual one.
        keep: What the model's own opinion of everything that was not corrected counts beside the
            corrections; 0 lets it forget.
        seed: Of everything random.
    """

    model: str
    corrections: Annotated[tuple[Correction, ...], Field(min_length=1)]
    out: Path
    name: str | None = None
    learns: Literal["head", "context"] = "head"
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    lr: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    keep: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    def options_for(self, correction: Correction) -> TuneSpec:
        """The options with which one slide is read."""
        own = correction.model_dump(exclude={"slide", "annotations"}, exclude_none=True)
        return self.model_copy(update=own)
