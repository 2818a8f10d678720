"""What can be asked about a prediction, and the answers: plain data."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from xt_backend.store import ScoreMap

from ..events import JobEvent, JobFinished

__all__ = [
    "About",
    "Answer",
    "Influence",
    "InfluenceMap",
    "Question",
    "Repredicted",
    "Spread",
    "SpreadMap",
    "WhatIf",
]

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class About:
    """The prediction that a question is about, and where its features lie.

    Attributes:
        score_map: Of a run that has come to its end.
        model: Name or file of the model that made it.
        cache: As of `RunSpec`: where the run kept its features.
        use_cache: As of `RunSpec`: whether it kept them.
        device: As of `RunSpec`.
    """

    score_map: ScoreMap
    model: str
    cache: Path | None = None
    use_cache: bool = True
    device: str = "auto"


def _new_id() -> str:
    return uuid.uuid4().hex


class _Job:
    """What makes a question work for `Backend`; the result is its answer."""

    run_id: str
    is_question: ClassVar[bool] = True

    def events(self, cancelled: Callable[[], bool]) -> Iterator[JobEvent]:
        """Answer it; see `Respondent.answer`."""
        from .respondent import shared_respondent

        answer = shared_respondent().answer(cast("Question", self), cancelled)
        yield JobFinished(self.run_id, answer, cancelled=answer is None)


@dataclass(frozen=True)
class Influence(_Job):
    """What did the prediction of one region, or of the slide, look at?

    Attributes:
        about: The prediction.
        row: Row of the score map; None asks about the slide as a whole.
        class_index: The class that is asked about.
        run_id: Names the question in events and in `Backend.cancel`.
    """

    about: About
    row: int | None
    class_index: int
    run_id: str = field(default_factory=_new_id)


@dataclass(frozen=True)
class WhatIf(_Job):
    """What would be predicted without some regions?

    Attributes:
        about: The prediction.
        removed: (m,) int64 rows of the score map that are left out.
        run_id: Names the question in events and in `Backend.cancel`.
    """

    about: About
    removed: Rows
    run_id: str = field(default_factory=_new_id)


@dataclass(frozen=True)
class Spread(_Job):
    """How much does the prediction depend on how the slide lies on the glass?

    Attributes:
        about: The prediction.
        run_id: Names the question in events and in `Backend.cancel`.
    """

    about: About
    run_id: str = field(default_factory=_new_id)


@dataclass(frozen=True)
class InfluenceMap:
    """How much each region moves one prediction.

    Attributes:
        row: The region that was asked about; None for the slide.
        class_index: The class that was asked about.
        rival_index: Rather than which it was predicted; None where there is no other.
        values: (n,) float32 for the rows of the score map, see `influence`; 0 where the model
            cannot see a region from there, NaN where it is not scored.
        half_um: Radius around the region from within which half of the others' influence comes;
            NaN for the slide and where there is none.
        reach_tokens: How far a token sees along the reading order, in tokens; None for any
            distance.
        tokens_per_region: Number of tokens of one region.
    """

    row: int | None
    class_index: int
    rival_index: int | None
    values: Floats
    half_um: float
    reach_tokens: int | None
    tokens_per_region: int


@dataclass(frozen=True)
class Repredicted:
    """The prediction without some regions.

    Attributes:
        score_map: As the run's, but the removed regions are ``left_out`` and have no logits.
    """

    score_map: ScoreMap


@dataclass(frozen=True)
class SpreadMap:
    """The prediction made again from the slide turned and mirrored, which also turns the reading.

    Attributes:
        probabilities: (n, C) float32 mean over the views.
        deviation: (n,) float32 standard deviation over the views of the probability of the class
            that the run predicted, 0 to 0.5; NaN where the region is not scored.
        agreement: (n,) float32 share of the views that predict the same class as the run.
        n_views: How many views there were.
    """

    probabilities: Floats
    deviation: Floats
    agreement: Floats
    n_views: int


Question: TypeAlias = Influence | WhatIf | Spread
Answer: TypeAlias = InfluenceMap | Repredicted | SpreadMap
