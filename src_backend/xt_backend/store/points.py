"""Points that a detection model has found on a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.errors import UsageError

__all__ = ["Points"]


@dataclass(frozen=True, eq=False)
class Points:
    """Points on one slide.

    Attributes:
        x_px: (n,) float64, level-0 px from the left edge of the slide; 0.5 is the middle of the
            first pixel.
        y_px: (n,) float64, from the top edge.
        kind: (n,) int32, index among the kinds: the model's classes without the first.
        score: (n,) float32, 0 to 1.

    Raises:
        UsageError: The columns differ in length.
    """

    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int32]
    score: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        types = {"x_px": np.float64, "y_px": np.float64, "kind": np.int32, "score": np.float32}
        for name, dtype in types.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        lengths = {getattr(self, name).shape for name in types}
        if len(lengths) > 1 or self.x_px.ndim != 1:
            raise UsageError(
                f"columns of points have the shapes {sorted(lengths)}", "Give (n,) each"
            )

    @classmethod
    def none(cls) -> Points:
        """No points."""
        return cls(*(np.empty(0) for _ in range(4)))  # type: ignore[arg-type]

    @classmethod
    def joined(cls, parts: Sequence[Points]) -> Points:
        """All points of several sets, in their order."""
        if not parts:
            return cls.none()
        return cls(
            np.concatenate([part.x_px for part in parts]),
            np.concatenate([part.y_px for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.score for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.x_px)

    def take(self, which: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Points:
        """Some of the points, by index or mask."""
        return Points(self.x_px[which], self.y_px[which], self.kind[which], self.score[which])

    def counts(self, kinds: Sequence[str]) -> dict[str, int]:
        """Number of points by kind; every kind is there.

        Args:
            kinds: Names in the order of `kind`.
        """
        counted = np.bincount(self.kind, minlength=len(kinds))
        return dict(zip(kinds, counted.tolist(), strict=True))
