"""Loading all slides of a training, with whitening fitted on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from xt_backend.engine import BatchEncoder
from xt_backend.errors import AnnotationError, SlideError
from xt_backend.model import XT

from .annotations import AnnotatedSlide
from .augment import View
from .dataset import SlideField, load_field, true_labels
from .events import Progress, ProgressCallback
from .fit import LabelledField
from .spec import TrainSpec

__all__ = ["FieldLoader", "white_view"]

WHITENING_TOKENS = 200_000
"""Tokens that whitening is fitted on, unless the first slide has more."""


@dataclass
class FieldLoader:
    """Reads, encodes and labels slides; keeps only whitened tokens.

    Attributes:
        model: Its whitening is fitted on the first training slides.
        encoder: Runs the model's region encoder.
        spec: The recipe.
        progress: Told about every slide.
        n_slides: Slides to be loaded in all, for the progress.
        notes: What the user should know.
        errors: Slides that could not be used, and why.
        pitch_um: Step of the lattice.
    """

    model: XT
    encoder: BatchEncoder
    spec: TrainSpec
    progress: ProgressCallback
    n_slides: int
    notes: list[str] = field(default_factory=list)
    errors: list[SlideError] = field(default_factory=list)
    pitch_um: float = 0.0
    _n_done: int = 0

    def load_training(self, slides: Sequence[AnnotatedSlide]) -> list[LabelledField]:
        """Fit the whitening on slides in random order, and label all of them.

        Features are held for as many slides as the whitening needs; all others are whitened as
        they come, so that memory does not grow with the features' width.

        Returns:
            Slides with annotated regions, in the order given.

        Raises:
            AnnotationError: No slide has annotated regions.
            SlideError: No slide could be used.
        """
        order = np.random.default_rng(self.spec.seed).permutation(len(slides))
        held: list[tuple[int, SlideField]] = []
        fields: dict[int, LabelledField] = {}
        n_tokens = 0
        fitted = False
        for index in order:
            loaded = self._load(slides[index])
            if loaded is None:
                continue
            if fitted:
                fields[int(index)] = self._labelled(loaded)
                continue
            held.append((int(index), loaded))
            n_tokens += int(loaded.scored.sum()) * loaded.features.shape[1]
            if n_tokens >= WHITENING_TOKENS:
                self._fit([one for _, one in held])
                fitted = True
                fields |= {place: self._labelled(one) for place, one in held}
                held = []
        if not fitted and held:
            self._fit([one for _, one in held])
            fields |= {place: self._labelled(one) for place, one in held}
        return self._checked([fields[place] for place in sorted(fields)], "training")

    def load_validation(self, slides: Sequence[AnnotatedSlide]) -> list[LabelledField]:
        """Label slides with the whitening fitted before; returns and raises as for training."""
        loaded = [self._load(slide) for slide in slides]
        return self._checked([self._labelled(one) for one in loaded if one], "validation")

    def _load(self, slide: AnnotatedSlide) -> SlideField | None:
        """One slide; None, and a note, where it cannot be used or has no annotated region."""
        self.progress(Progress("encode", self._n_done, self.n_slides, slide.name))
        card = self.model.card
        try:
            loaded = load_field(
                slide,
                card,
                self.encoder,
                self.spec,
                self._on_regions(slide.name),
            )
        except SlideError as error:
            self.errors.append(error)
            self.notes.append(f"{slide.name} is left out: {error}")
            return None
        finally:
            self._n_done += 1
        self.notes += [f"{slide.name}: {note}" for note in loaded.notes]
        self.pitch_um = loaded.pitch_um
        if not (loaded.annotated(card.label_rule) & loaded.scored).any():
            self.notes.append(f"{slide.name} is left out: no region of tissue is annotated enough")
            return None
        return loaded

    def _on_regions(self, name: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            message = f"{name}: {done} of {total} regions"
            self.progress(Progress("encode", self._n_done, self.n_slides, message))

        return tell

    def _fit(self, fields: Sequence[SlideField]) -> None:
        rows = [torch.from_numpy(one.features[one.scored]) for one in fields]
        self.model.reduce.fit_whitening(torch.cat(rows))

    def _labelled(self, loaded: SlideField) -> LabelledField:
        return white_view(self.model, loaded)

    def _checked(self, fields: list[LabelledField], what: str) -> list[LabelledField]:
        if fields:
            return fields
        if self.errors:
            raise self.errors[0]
        raise AnnotationError(
            f"No {what} slide has tissue that is annotated enough",
            "Check that the annotations lie over the tissue and belong to these slides",
        )


def white_view(model: XT, loaded: SlideField) -> LabelledField:
    """Whiten a slide's tokens and drop the regions that could not be read."""
    rows = loaded.scored
    card = model.card
    with torch.inference_mode():
        features = torch.from_numpy(loaded.features[rows]).to(model.device, torch.float32)
        tokens = model.reduce.whiten(features).cpu().numpy()
    targets = loaded.targets
    weights = np.where(loaded.annotated(card.label_rule), targets.annotated, np.float32(0.0))
    view = View(
        tokens=tokens,
        positions_um=loaded.positions_um[rows],
        soft=targets.soft()[rows],
        weights=weights[rows],
    )
    return LabelledField(
        name=loaded.name,
        view=view,
        true=true_labels(targets, card.class_names, card.label_rule)[rows],
    )
