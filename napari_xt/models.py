"""Which models there are and which of them fit the slide's pixel size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_xt.plain_words import plain
from xt_backend.errors import SlideMppError

if TYPE_CHECKING:
    from pathlib import Path

    from xt_backend.model.card import ModelCard

__all__ = ["ModelChoice", "choices", "choose", "explain", "looks_around", "reference_of"]


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be picked.

    Attributes:
        name: What the list shows.
        reference: Name or path for the run.
        card: None where the file can't be used.
        problem: Why not, or empty.
    """

    name: str
    reference: str
    card: ModelCard | None
    problem: str = ""

    def fits(self, slide_mpp: float | None, allow_upsample: bool) -> bool:
        """Whether a slide of this pixel size may be run; unknown sizes fit nothing."""
        from xt_backend.slides import check_scale

        if self.card is None or self.card.model_mpp is None or slide_mpp is None:
            return False
        try:
            check_scale(slide_mpp, self.card.model_mpp, allow_upsample)
        except SlideMppError:
            return False
        return True


def choices(extra: tuple[Path, ...] = ()) -> list[ModelChoice]:
    """Bundled models, the user's own, then files picked by hand."""
    from xt_backend.errors import XTError
    from xt_backend.model.header import read_card
    from xt_backend.model.library import list_models

    found = [
        ModelChoice(entry.name, entry.name, entry.card, entry.problem) for entry in list_models()
    ]
    for path in extra:
        try:
            found.append(ModelChoice(path.stem, str(path), read_card(path)))
        except XTError as error:  # damaged by now, or gone
            found.append(ModelChoice(path.stem, str(path), None, plain(str(error))))
    return found


def reference_of(path: Path) -> str:
    """How a run names a model file: one in the user's own folder by its name, others by path."""
    from xt_backend.model.library import models_folder

    return path.stem if path.parent == models_folder() else str(path)


def looks_around(reference: str) -> bool:
    """Whether a model judges regions together; True also for one that is not at hand."""
    from xt_backend.errors import XTError
    from xt_backend.model.header import read_card
    from xt_backend.model.library import find_model

    try:
        return read_card(find_model(reference)).context.kind != "none"
    except XTError:
        return True


def choose(
    models: list[ModelChoice],
    slide_mpp: float | None,
    allow_upsample: bool,
    current: str,
    preferred: str = "",
) -> int:
    """Index to preselect, -1 without models.

    Of those that fit the current one (a user's choice), else the preferred one, else the first; if
    none fits, the current one, else the first that can be used at all.
    """
    fitting = [index for index, model in enumerate(models) if model.fits(slide_mpp, allow_upsample)]
    known = [index for index, model in enumerate(models) if model.reference == current]
    if known and (known[0] in fitting or not fitting):
        return known[0]
    fitting.sort(key=lambda index: models[index].reference != preferred)
    usable = [index for index, model in enumerate(models) if model.card is not None]
    return next(iter(fitting or usable or range(len(models))), -1)


def explain(model: ModelChoice, slide_mpp: float | None, allow_upsample: bool) -> str:
    """Why this model suits the slide, or why it does not, for the user."""
    if model.card is None:
        return model.problem
    model_mpp = model.card.model_mpp
    if model_mpp is None:
        return plain("It states no pixel size. Convert it again with --model-mpp.")
    wants = f"It looks at {model_mpp:g} µm per pixel"
    if slide_mpp is None:
        return f"{wants}."
    ratio = slide_mpp / model_mpp
    slides = f"{round(slide_mpp, 4):g}"  # as the box above shows it
    if not model.fits(slide_mpp, allow_upsample):
        return (
            f"{wants}; this slide has only {slides}, {ratio:.2g} times too coarse. Pick a "
            "model for coarser pixels, or tick “Enlarge coarse scans”."
        )
    if ratio > 1.001:
        return f"{wants}; the slide's {slides} will be enlarged {ratio:.3g} times."
    if ratio > 0.999:
        return f"{wants}, exactly what this slide has."
    return f"{wants}; the slide's {slides} is fine enough."
