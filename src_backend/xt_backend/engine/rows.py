"""The rows of a score map while a run fills them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.keys import Doubt, RunMeta
from xt_backend.model import XT, ReferenceXT
from xt_backend.slides.quality import MEASURES
from xt_backend.store import ScoreMap

__all__ = ["Rows"]


class Rows:
    """The rows of a score map while they fill; `map` takes a copy as it stands.

    Attributes:
        tokens: (n, k*k, p) float32 whitened features (logits, for layout ``reference``); what
            context needs, far smaller than the features, so that memory hardly grows with the
            slide.
        context_tokens: (n, dim) float32 after context, NaN where there are none; kept for dense
            and detection models.
        quality: (n,) uint8, `Doubt`.
        measures: (n, 4) float16 that it follows from, NaN where not measured.
        typical: (n,) bool, regions that stand for all of them; None where all are scored.
    """

    def __init__(self, blank: ScoreMap) -> None:
        self.blank = blank
        self.status = blank.status.copy()
        self.logits = blank.logits.copy()
        self.region_only = blank.region_only_logits.copy()
        self.slide_logits: npt.NDArray[np.float32] | None = None
        self.tokens: torch.Tensor | None = None
        self.context_tokens = np.empty((len(blank), 0), np.float32)
        self.typical: npt.NDArray[np.bool_] | None = None
        self.quality = np.full(len(blank), Doubt.NOT_MEASURED, np.uint8)
        self.measures = np.full((len(blank), len(MEASURES)), np.nan, np.float16)

    def keep(
        self,
        model: XT | ReferenceXT,
        rows: npt.NDArray[np.int64],
        features: npt.NDArray[np.float16],
    ) -> None:
        """Take features in, and show what can be said before all regions are there."""
        with torch.inference_mode():
            tokens = model.reduce(torch.from_numpy(features).to(model.device, torch.float32))
            logits = model.region_only(tokens).cpu().numpy()
        if self.tokens is None:
            self.tokens = torch.zeros((len(self.blank), *tokens.shape[1:]))
        self.tokens[torch.from_numpy(rows)] = tokens.cpu()
        if model.has_region_only:
            self.region_only[rows] = logits
        self.logits[rows] = logits

    def keep_context(self, which: npt.NDArray[np.bool_], tokens: torch.Tensor) -> None:
        """Take the tokens after context of some regions, the others having none."""
        shape = (len(self.blank), tokens.shape[1])
        self.context_tokens = np.full(shape, np.nan, np.float32)
        self.context_tokens[which] = tokens.cpu().numpy()

    def warn(self, text: str) -> None:
        """Take a warning about the slide as a whole."""
        meta = self.blank.run_meta
        self.tell({k: [*meta.get(k, ()), text] for k in (RunMeta.NOTES, RunMeta.WARNINGS)})

    def note(self, text: str) -> None:
        """Take what the user should know of the slide, if it is anything."""
        if text:
            self.tell({RunMeta.NOTES: [*self.blank.run_meta.get(RunMeta.NOTES, ()), text]})

    def tell(self, more: Mapping[str, Any]) -> None:
        """Take what `ScoreMap.run_meta` is to hold besides."""
        self.blank = replace(self.blank, run_meta={**self.blank.run_meta, **more})

    def map(self, partial: bool = True) -> ScoreMap:
        """The rows as they stand."""
        return replace(
            self.blank,
            status=self.status.copy(),
            logits=self.logits.copy(),
            region_only_logits=self.region_only.copy(),
            slide_logits=self.slide_logits,
            quality=self.quality.copy(),
            quality_measures=self.measures.copy(),
            partial=partial,
        )
