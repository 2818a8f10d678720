"""From the page's corrections to a training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_xt.correct.pieces import write_areas
from napari_xt.slide_layers import pyramid_of
from xt_backend.errors import AnnotationError, XTError

if TYPE_CHECKING:
    from napari_xt.chosen import Chosen
    from napari_xt.correct.marks import Marks
    from xt_backend.training.tuning import Correction, TuneSpec

__all__ = ["suggested_name", "tune_request"]

_OF_RUN = (
    "device",
    "precision",
    "encoder_backend",
    "allow_upsample",
    "accept_objective_mpp",
    "stride_px",
    "cache",
    "use_cache",
    "offline",
)
"""Options of a run that its training takes over, so that features are found again."""


def tune_request(
    chosen: Chosen,
    marks: Iterable[Marks],
    name: str,
    learns: Literal["head", "context"],
    folder: Path,
) -> TuneSpec:
    """The training of a result's model on the corrections of all slides that it was run on.

    Args:
        chosen: The slide and its result.
        marks: Corrections of all slides.
        name: Of the new model; empty for one that is suggested.
        learns: As of `TuneSpec`.
        folder: Gets the corrections as files.

    Raises:
        AnnotationError: Nothing is corrected.
        OutputError: The corrections cannot be written.
    """
    from xt_backend.training.tuning import TuneSpec

    corrections: list[Correction] = []
    for one in marks:
        found = _correction(chosen, one, folder / str(len(corrections)))
        corrections += [] if found is None else [found]
    if not corrections:
        raise AnnotationError(
            "No region is corrected", "Choose a class and paint some regions first"
        )
    run = chosen.spec
    options = {} if run is None else {option: getattr(run, option) for option in _OF_RUN}
    return TuneSpec(
        **options,
        model=chosen.model,
        corrections=tuple(corrections),
        out=_free_path(name, chosen.model),
        learns=learns,
    )


def _correction(chosen: Chosen, marks: Marks, folder: Path) -> Correction | None:
    """What was corrected on a slide; None where nothing was, or another model was run on it."""
    from xt_backend.training.tuning import Correction

    slide, shown = marks.slide, chosen.score_map
    result = chosen.of(slide)
    score_map = None if result is None else result.score_map
    if result is None or score_map is None or shown is None or not marks.any:
        return None
    if slide not in chosen.viewer.layers or score_map.model_sha256 != shown.model_sha256:
        return None
    path = pyramid_of(slide).path
    folder.mkdir()
    file = folder / Path(path.name).with_suffix(".geojson")
    colors = dict(zip(score_map.classes, score_map.colors, strict=True))
    write_areas(file, marks.areas(), colors, marks.bounds_px)
    run = result.spec
    return Correction(
        slide=path,
        annotations=file,
        slide_mpp=run.slide_mpp if run else sum(score_map.slide_mpp) / 2,
        tissue=run.tissue if run else None,
        roi=run.roi if run else None,
    )


def suggested_name(model: str) -> str:
    """Name of a model that is made from another one; empty where there is none."""
    stem = Path(model).name.removesuffix(".safetensors").replace(".", "_")
    return f"{re.sub(r'-corrected(-[0-9]+)?$', '', stem)}-corrected" if stem else ""


def _free_path(asked: str, model: str) -> Path:
    """A file of the user's own models that is not there yet."""
    from xt_backend.model.library import SUFFIX, models_folder

    # A name with a dot would be taken for a path.
    stem = Path(asked.strip()).name.removesuffix(SUFFIX).replace(".", "_") or suggested_name(model)
    path, number = models_folder() / f"{stem}{SUFFIX}", 1
    while path.exists() or _is_known(path.stem):
        number += 1
        path = path.with_name(f"{stem}-{number}{SUFFIX}")
    return path


def _is_known(name: str) -> bool:
    from xt_backend.model.library import find_model

    try:
        find_model(name)
    except XTError:
        return False
    return True
