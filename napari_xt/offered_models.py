"""The models that the form offers, and the one that is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_xt import models
from napari_xt.kept import Choices
from napari_xt.sample_data import SAMPLE_MODEL
from xt_backend.errors import UsageError

if TYPE_CHECKING:
    from napari_xt.run_form import RunForm

__all__ = ["OfferedModels"]


class OfferedModels:
    """Lists the models, begins with the one that suits the slide, and explains it.

    Args:
        form: Shows them.
        kept: What was chosen for the last run.
    """

    def __init__(self, form: RunForm, kept: Choices) -> None:
        self._form = form
        self._kept = kept
        self._files = kept.show(form)
        self._known: list[models.ModelChoice] = []
        self._preselected = ""

    @property
    def chosen(self) -> models.ModelChoice | None:
        """The model that is chosen, None without any."""
        index = self._form.model.currentIndex()
        return self._known[index] if 0 <= index < len(self._known) else None

    def show(self, slide_mpp: float | None, *, sample: bool) -> None:
        """List those that there are by now, and choose one for a slide.

        Args:
            slide_mpp: um/px of the slide, None where that is not known.
            sample: Whether it is one of ours, which has a model of its own.
        """
        current = self._form.model.currentData() or ""
        if current == self._preselected:
            current = ""  # nobody chose it: another slide may suit another model better
        self._known = models.choices(self._files)
        preferred = SAMPLE_MODEL if sample else self._kept.model
        index = models.choose(self._known, slide_mpp, self._enlarges, current, preferred)
        if index >= 0 and self._known[index].reference != current:
            self._preselected = self._known[index].reference
        self._form.show_models(self._known, index)

    def explain(self, slide_mpp: float | None) -> None:
        """Say below the chosen one whether it suits a slide of this pixel size."""
        model = self.chosen
        self._form.model_note.setText(
            "No model is installed; pick a file with “…”."
            if model is None
            else models.explain(model, slide_mpp, self._enlarges)
        )

    def add_file(self, path: Path) -> str:
        """Offer a model file from now on; what a run calls it, to be chosen by."""
        reference = models.reference_of(path)
        if reference == str(path) and path not in self._files:
            self._files = (*self._files, path)
        return reference

    def of(self, sha256: str) -> str:
        """Name or file of the known model with these weights, empty where there is none."""
        known = (model for model in self._known if model.card is not None)
        return next((m.reference for m in known if m.card.state_sha256 == sha256), "")

    def for_slide(self, slide_mpp: float | None) -> models.ModelChoice:
        """The chosen model, which can be run on a slide of this pixel size.

        Raises:
            UsageError: It cannot, or something is missing.
        """
        model = self.chosen
        if model is None:
            raise UsageError("There is no model", "Pick a model file with the button beside it")
        if model.card is None:
            raise UsageError(model.problem, "Pick another model")
        if slide_mpp is None:
            raise UsageError("The pixel size is missing", "Enter it above first")
        if not model.fits(slide_mpp, self._enlarges):
            why = models.explain(model, slide_mpp, self._enlarges).removesuffix(".")
            raise UsageError("The model does not fit the slide", why)
        return model

    def keep(self) -> None:
        """Begin the next run, also of another window, with what is chosen now."""
        model = self.chosen
        self._kept.keep_form(model.reference if model else "", self._form)

    @property
    def _enlarges(self) -> bool:
        return bool(self._form.upsample.isChecked())
