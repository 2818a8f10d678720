"""What the fitter asks of a way to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from xt_backend.model import XT, FeatureStats

from .judging import Judged
from .pixel_judging import PixelJudged

__all__ = ["Backward", "Learner", "StepOutcome"]


class Backward(Protocol):
    """Adds the gradients of a scalar; the fitter's own, because it may scale them."""

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Do so, and keep the graph for another one if asked for."""
        ...


@dataclass(frozen=True)
class StepOutcome:
    """What one step saw.

    Attributes:
        loss: Mean over what has a label.
        confusion: (C, C + 1) counts, largest share against largest logit.
    """

    loss: float
    confusion: npt.NDArray[np.float64]


class Learner(Protocol):
    """Knows the examples and how a step's gradients come about.

    Attributes:
        model: What is trained, changed in place.
    """

    model: XT

    @property
    def trains_encoder(self) -> bool:
        """Whether the region encoder is trained too."""
        ...

    @property
    def scales_loss(self) -> bool:
        """Whether gradients pass through fp16, which needs a scaled loss."""
        ...

    @property
    def is_small(self) -> bool:
        """Whether one thread is fastest: more of them would only wait for each other."""
        ...

    def __len__(self) -> int:
        """Slides to learn from."""
        ...

    def fingerprint(self) -> str:
        """A hash of the examples: training may only go on with the same ones."""
        ...

    def counts(self, *, validation: bool = False) -> npt.NDArray[np.int64]:
        """(C,) labels by class to learn from, or of the validation slides."""
        ...

    def step(
        self, slides: Sequence[int], epoch: int, rng: np.random.Generator, backward: Backward
    ) -> StepOutcome | None:
        """Add the gradients of one step; None where nothing in it has a label.

        Args:
            slides: Which of the training slides.
            epoch: From 1.
            rng: Draws what is random; the same draws give the same step.
            backward: Called for every part of the loss.
        """
        ...

    def validate(self) -> dict[str, float]:
        """``val_loss``, ``val_f1`` and ``val_f1_region_only``; empty without validation slides."""
        ...

    def judge(self) -> list[Judged]:
        """The validation slides as the model sees them."""
        ...

    def judge_pixels(self) -> list[PixelJudged]:
        """The same for what the decoder of dense and detection models says; else empty."""
        ...

    def colours(self) -> list[tuple[float, float, float]]:
        """`stained_colours` of the training slides that are stained."""
        ...

    def feature_stats(self) -> FeatureStats:
        """Mean and standard deviation of the training regions' whitened tokens."""
        ...
