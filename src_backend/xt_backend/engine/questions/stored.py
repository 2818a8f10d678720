"""The tokens of a finished run, taken from the region store: nothing is encoded for a question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xt_backend.config import cache_folder
from xt_backend.errors import ModelError, StoreError
from xt_backend.model import XT
from xt_backend.store import RegionStore, ScoreMap

from ..extraction import CACHED_ROWS, key_of_run
from .asked import About
from .stopping import Stopped

__all__ = ["StoredField"]


@dataclass(frozen=True)
class StoredField:
    """The regions that a run predicted together.

    Attributes:
        rows: (m,) int64 rows of the score map that were scored, in its order.
        tokens: (m, k * k, width) float32 whitened tokens, on the CPU.
        positions_um: (m, 2) float64 x, y of the regions' centres.
    """

    rows: npt.NDArray[np.int64]
    tokens: Tensor
    positions_um: Tensor

    @classmethod
    def load(cls, about: About, model: XT, cancelled: Callable[[], bool]) -> StoredField:
        """Read what a run has stored.

        Args:
            about: The prediction.
            model: The model that made it.
            cancelled: Asked now and then.

        Raises:
            StoreError: The run kept no features, or they are gone.
            Stopped: It was cancelled.
        """
        score_map = about.score_map
        store = _store(about)
        rows = np.flatnonzero(score_map.scored & np.isfinite(score_map.logits).all(axis=1))
        parts = []
        for first in range(0, len(rows), CACHED_ROWS):
            if cancelled():
                raise Stopped
            cells = score_map.cells[rows[first : first + CACHED_ROWS]]
            features, _, found = store.load(cells)
            if not found.all():
                _gone(score_map, f"{int((~found).sum())} of its {len(rows)} regions are gone")
            with torch.inference_mode():
                parts.append(
                    model.reduce(torch.from_numpy(features).to(model.device, torch.float32)).cpu()
                )
        if not parts:
            raise StoreError("No region of the slide is scored", "Run the model on it first")
        places = score_map.lattice.centres_um(score_map.cells[rows])
        # Out of inference mode, so that gradients can be asked for.
        return cls(rows, torch.cat(parts).clone(), torch.from_numpy(places))

    def place_of(self, row: int) -> int:
        """Where a row of the score map lies in the field.

        Raises:
            ModelError: It was not scored.
        """
        places = np.flatnonzero(self.rows == row)
        if not len(places):
            raise ModelError("This region was not scored", "Ask about another one")
        return int(places[0])


def _store(about: About) -> RegionStore:
    key = key_of_run(about.score_map)
    if not about.use_cache or key is None:
        _gone(about.score_map, "this run kept none, or has not told where")
    store = RegionStore.open(about.cache or cache_folder(), key)
    if not len(store):
        _gone(about.score_map, "they are not in the cache")
    return store


def _gone(score_map: ScoreMap, why: str) -> NoReturn:
    raise StoreError(
        f"The features of {score_map.slide_name} cannot be had: {why}",
        "Run the model on the slide again, with a cache; what is still stored is not encoded again",
    )
