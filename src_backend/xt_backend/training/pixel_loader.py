"""Slides as fields of pixels that stay in their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from xt_backend.engine import prepare
from xt_backend.errors import SlideError
from xt_backend.model import ModelCard

from .fields import WHITENING_TOKENS
from .loader import Loader
from .pixels import PixelField, Pixels, RegionStream
from .streams import TwoStreams
from .truth import Source, read_truth

__all__ = ["PixelLoader"]

WHITENING_SLIDES = 64
WHITENING_REGIONS = 256
"""Regions of a slide that whitening is fitted on, at most."""


@dataclass
class PixelLoader(Loader):
    """Finds the regions and labels of slides; encodes only what whitening needs."""

    def load(self, slides: Sequence[Source], what: str) -> list[PixelField]:
        """Look at all slides, before the first step.

        Returns:
            Slides that can be learnt from, in the order given.

        Raises:
            AnnotationError: No slide has anything to learn from.
            SlideError: No slide could be used.
        """
        found = [self._load(source) for source in slides]
        return self.checked([one for one in found if one is not None], what)

    def fit_whitening(self, fields: Sequence[PixelField]) -> None:
        """Fit the model's whitening on some regions of some slides.

        Raises:
            SlideError: None of them can be read.
            ModelError: There are too few for the components.
        """
        rng = np.random.default_rng(self.spec.seed)
        features: list[torch.Tensor] = []
        n_tokens = 0
        for index in rng.permutation(len(fields))[:WHITENING_SLIDES]:
            one = fields[index]
            self.tell(f"{one.name}: whitening")
            n = min(len(one.cells), WHITENING_REGIONS)
            rows = np.sort(rng.permutation(len(one.cells))[:n])
            with one.open(self.spec) as slide:
                regions = RegionStream(
                    slide, one, rows, lambda pixels: pixels, at_once=64, threads=self.spec.workers
                )
                parts = [self._tokens(pixels) for _, pixels in regions.read(np.arange(n))]
            features += parts
            n_tokens += sum(part.shape[0] * part.shape[1] for part in parts)
            if n_tokens >= WHITENING_TOKENS:
                break
        if not features:
            raise SlideError("No region of the training slides can be read", "Get the slides again")
        self.model.reduce.fit_whitening(torch.cat(features))

    def _tokens(self, pixels: Pixels) -> torch.Tensor:
        """(n, g * g, D) features; of the parts where the head learns from parts."""
        if not self.spec.parts:
            return torch.from_numpy(self.encoder.encode(pixels))
        encoder = self.model.region_encoder
        streams = TwoStreams(encoder, self.encoder.device, checkpoints=False, parts=self.spec.parts)
        with torch.no_grad():
            return streams.encode(pixels)

    def _load(self, source: Source) -> PixelField | None:
        return self.attempt(source, lambda: self._prepared(source, self.model.card))

    def _prepared(self, source: Source, card: ModelCard) -> PixelField | None:
        prepared = prepare(source.path, card.mpp(), card.region_px, self.spec, card.stain)
        with prepared.slide:
            known = read_truth(source, prepared, card)
            self.notes += [f"{source.name}: {note}" for note in prepared.notes]
            self.pitch_um = prepared.lattice.stride_px * card.mpp()
            if not self.is_useful(source, known.truth, np.ones(len(prepared.cells), np.bool_)):
                return None
            return PixelField.of(source, prepared, known)
