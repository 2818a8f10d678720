"""In which order a screening looks at the regions of a slide, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xt_backend.keys import RegionStatus, RunMeta, ScreeningMeta

from ..extraction import Extracted
from ..rows import Rows
from .ranking import rank
from .recall import CONFIDENCE, cut_place, positives_needed, recall_bound
from .sought import Sought

__all__ = ["Screen"]

_SEED = 0
_SHARE, _LEAST, _STEP, _MOST = 0.15, 200, 0.05, 0.5
"""Regions drawn: the first share, at least as many, the share of each further draw, and in all."""

Places = npt.NDArray[np.int64]


@dataclass
class Screen:
    """Draws regions at random, learns from them, and leaves out what ranks below a safe cut.

    Half of the draws teach what the sought classes look like at low resolution; the others, of
    which the ranking knows nothing, say where it may be cut. Drawing goes on while there are too
    few positives among these and enough may come; their number is all that this depends on, so that
    they stay a random choice of all positives. With too few in the end nothing is left out.

    What is left out depends on the slide, the model and what is sought, and not on what the region
    store holds: the same bytes come out of any cache.

    Args:
        sought: Classes and recall.
        rows: Filled with each part before the next one is asked for.
        describe: Gives the descriptors of all regions, fewer rows when the run was cancelled; asked
            only where something may be left out.
        extract: Gives the features of some rows.
        cancelled: Asked after every part.
    """

    sought: Sought
    rows: Rows
    describe: Callable[[], npt.NDArray[np.float32]]
    extract: Callable[[Places], Iterator[Extracted]]
    cancelled: Callable[[], bool]

    def parts(self) -> Iterator[Extracted]:
        """Every region once; those left out together, without features."""
        n = len(self.rows.blank)
        needed = positives_needed(self.sought.recall)
        order = np.random.default_rng(_SEED).permutation(n).astype(np.int64)
        drawn, last, most = 0, min(n, max(_LEAST, round(_SHARE * n))), max(_LEAST, _MOST * n)
        while True:
            yield from self.extract(np.sort(order[drawn:last]))
            if self.cancelled():
                return
            drawn = last
            learnt, held = order[:drawn:2], order[1:drawn:2]
            positive = self.sought.positive(self.rows.map())
            n_held = int(positive[held].sum())
            if n_held >= needed or n_held * most < needed * drawn or drawn >= min(n, most):
                break
            last = min(n, drawn + max(1, round(_STEP * n)))
        left = order[drawn:]
        out = left[:0]
        place = cut_place(n_held, self.sought.recall)
        if place and len(left):
            descriptors = self.describe()
            if self.cancelled():
                return
            evidence = self.sought.evidence(self.rows.map())
            ranks = rank(descriptors, learnt, evidence[learnt])
            cut = np.sort(ranks[held[positive[held]]])[place - 1]
            out = np.sort(left[ranks[left] < cut])
        self.rows.typical = np.isin(np.arange(n), order[:drawn])
        self.rows.tell({RunMeta.SCREENING: self._told(n, drawn, n_held, needed, place, len(out))})
        if len(out):
            yield Extracted(
                out,
                np.zeros((len(out), 0, 0), np.float16),
                np.full(len(out), RegionStatus.SCREENED_OUT, np.uint8),
                cached=False,
            )
        yield from self.extract(np.sort(np.setdiff1d(left, out)))

    def _told(
        self, n: int, drawn: int, n_held: int, needed: int, place: int, n_out: int
    ) -> dict[str, Any]:
        return {
            ScreeningMeta.CLASSES: list(self.sought.classes),
            ScreeningMeta.RECALL: self.sought.recall,
            ScreeningMeta.CONFIDENCE: CONFIDENCE,
            ScreeningMeta.DRAWN: drawn,
            ScreeningMeta.POSITIVES: n_held,
            ScreeningMeta.NEEDED: needed,
            # Where nothing is left out, nothing is missed.
            ScreeningMeta.BOUND: recall_bound(n_held, place) if n_out else 1.0,
            ScreeningMeta.SCREENED_OUT: n_out,
            ScreeningMeta.SHARE: n_out / n if n else 0.0,
        }
