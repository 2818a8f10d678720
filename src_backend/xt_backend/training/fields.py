"""Slides as fields of whitened tokens, all in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.model import XT

from .augment import View
from .dataset import SlideField, load_field
from .loader import Loader
from .truth import Source

__all__ = ["WHITENING_TOKENS", "FieldLoader", "LabelledField", "white_view"]

WHITENING_TOKENS = 200_000
"""Tokens that whitening is fitted on, unless the first slide has more."""


@dataclass(frozen=True)
class LabelledField:
    """One slide to learn from or to be judged by.

    Attributes:
        source: The slide and what is known about it.
        view: Its tokens, places and soft labels; weight 0 where a region is not annotated enough.
        true: (T,) labels, of all regions or of the slide; only those with a weight count.
    """

    source: Source
    view: View
    true: npt.NDArray[np.int64]
    colours: tuple[float, float, float] | None = None

    @property
    def name(self) -> str:
        """The slide's file name."""
        return self.source.name


@dataclass
class FieldLoader(Loader):
    """Reads, encodes and labels slides; keeps only whitened tokens."""

    def load_training(self, slides: Sequence[Source]) -> list[LabelledField]:
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
                fields[int(index)] = white_view(self.model, loaded)
                continue
            held.append((int(index), loaded))
            n_tokens += int(loaded.scored.sum()) * loaded.features.shape[1]
            if n_tokens >= WHITENING_TOKENS:
                self._fit([one for _, one in held])
                fitted = True
                fields |= {place: white_view(self.model, one) for place, one in held}
                held = []
        if not fitted and held:
            self._fit([one for _, one in held])
            fields |= {place: white_view(self.model, one) for place, one in held}
        return self.checked([fields[place] for place in sorted(fields)], "training")

    def load_validation(self, slides: Sequence[Source]) -> list[LabelledField]:
        """Label slides with the whitening fitted before; returns and raises as for training."""
        fields = [self._load_white(slide) for slide in slides]
        return self.checked([one for one in fields if one is not None], "validation")

    def _load_white(self, source: Source) -> LabelledField | None:
        """One slide, without its features: they are far larger than what is kept."""
        loaded = self._load(source)
        return None if loaded is None else white_view(self.model, loaded)

    def _load(self, source: Source) -> SlideField | None:
        """One slide; None, and a warning, where it cannot be used or has nothing to learn from."""
        loaded = self.attempt(
            source,
            lambda: load_field(
                source, self.model.card, self.encoder, self.spec, self._on_regions(source.name)
            ),
        )
        if loaded is None:
            return None
        self.notes += [f"{source.name}: {note}" for note in loaded.notes]
        self.pitch_um = loaded.pitch_um
        useful = self.is_useful(source, loaded.truth, loaded.scored)
        return loaded if useful else None

    def _on_regions(self, name: str) -> Callable[[int, int], None]:
        def tell(done: int, total: int) -> None:
            self.tell(f"{name}: {done} of {total} regions")

        return tell

    def _fit(self, fields: Sequence[SlideField]) -> None:
        rows = [torch.from_numpy(one.features[one.scored]) for one in fields]
        self.model.reduce.fit_whitening(torch.cat(rows))


def white_view(model: XT, loaded: SlideField) -> LabelledField:
    """Whiten a slide's tokens and drop the regions that could not be read."""
    rows = loaded.scored
    with torch.inference_mode():
        features = torch.from_numpy(loaded.features[rows]).to(model.device, torch.float32)
        tokens = model.reduce.whiten(features).cpu().numpy()
    truth = loaded.truth if model.card.task == "slide" else loaded.truth[rows]
    view = View(tokens, loaded.positions_um[rows], truth.soft, truth.weights)
    pixels = loaded.pixels
    return LabelledField(pixels.source, view, truth.true, pixels.colours)
