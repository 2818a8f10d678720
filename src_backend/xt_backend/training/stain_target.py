"""The stain that slides are brought to: that of an average training slide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xt_backend.engine import prepare
from xt_backend.errors import AnnotationError, SlideError
from xt_backend.model import StainInfo
from xt_backend.slides import StainStats, average_stain, measure_stain, sample_stained

from .events import Progress, ProgressCallback
from .spec import TrainSpec
from .truth import Source

__all__ = ["stain_target"]

MOST_SLIDES = 32


def stain_target(
    spec: TrainSpec, slides: Sequence[Source], progress: ProgressCallback
) -> StainInfo | None:
    """Measure the average stain of some training slides; None unless the spec asks for it.

    Raises:
        SlideError: No slide can be used.
        AnnotationError: No slide is stained enough.
    """
    if spec.stain is None:
        return None
    picks = np.unique(np.linspace(0, len(slides) - 1, MOST_SLIDES).round().astype(np.int64))
    found: list[StainStats] = []
    errors: list[SlideError] = []
    for done, index in enumerate(picks):
        source = slides[index]
        progress(Progress("slides", done, len(picks), f"{source.name}: stain"))
        try:
            prepared = prepare(source.path, spec.model_mpp, spec.region_px, spec)
            with prepared.slide:
                pixels = sample_stained(prepared.slide, prepared.thumbnail, spec.model_mpp)
        except SlideError as error:
            errors.append(error.about(source.name))
            continue
        stats = measure_stain(spec.stain, pixels)
        if stats is not None:
            found.append(stats)
    if not found:
        if errors:
            raise errors[0]
        raise AnnotationError(
            "No training slide is stained enough to measure its stain", "Leave out --stain"
        )
    target = average_stain(found)
    return StainInfo(method=spec.stain, target={k: tuple(v) for k, v in target.values.items()})
