"""What all ways of loading slides for a training share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from xt_backend.engine import BatchEncoder
from xt_backend.errors import AnnotationError, SlideError
from xt_backend.model import XT

from .events import Progress, ProgressCallback, Warnings
from .spec import TrainSpec
from .truth import Source, Truth

__all__ = ["Loader"]

T = TypeVar("T")


@dataclass
class Loader:
    """Goes through slides one by one; those that cannot be used get a warning.

    Attributes:
        model: Its whitening is fitted on the first training slides.
        encoder: Runs the model's region encoder.
        spec: The recipe.
        progress: Told about every slide.
        n_slides: Slides to be loaded in all, for the progress.
        notes: What the user should know about slides that are used.
        warn: Takes what is said of slides that are not.
        errors: Slides that could not be used, and why.
        pitch_um: Step of the lattice.
        n_done: Slides done.
    """

    model: XT
    encoder: BatchEncoder
    spec: TrainSpec
    progress: ProgressCallback
    n_slides: int
    notes: list[str]
    warn: Warnings
    errors: list[SlideError] = field(default_factory=list)
    pitch_um: float = 0.0
    n_done: int = 0

    def attempt(self, source: Source, load: Callable[[], T]) -> T | None:
        """Load a slide; None, and a warning, where it cannot be used."""
        self.tell(source.name)
        try:
            return load()
        except SlideError as error:
            self.errors.append(error.about(source.name))
            self.warn(f"{source.name} is left out: {error}")
            return None
        finally:
            self.n_done += 1

    def tell(self, message: str) -> None:
        """Report what is being done."""
        self.progress(Progress("encode", self.n_done, self.n_slides, message))

    def is_useful(self, source: Source, truth: Truth, scored: npt.NDArray[np.bool_]) -> bool:
        """Whether there is something to learn from; a warning where there is not."""
        if self.model.card.task == "slide":
            useful, reason = bool(scored.any()), "it has no region of tissue"
        else:
            useful = bool((truth.known & scored).any())
            reason = "no region of tissue is annotated enough"
        if not useful:
            self.warn(f"{source.name} is left out: {reason}")
        return useful

    def checked(self, found: list[T], what: str) -> list[T]:
        """The slides found, if there are any.

        Args:
            found: Usable slides.
            what: They are for, in words.

        Raises:
            SlideError: Not one slide could be used.
            AnnotationError: Not one has anything to learn from.
        """
        if found:
            return found
        if self.errors:
            raise self.errors[0]
        if self.model.card.task == "slide":
            raise AnnotationError(f"No {what} slide has tissue", "See --tissue all")
        raise AnnotationError(
            f"No {what} slide has tissue that is annotated enough",
            "Check that the annotations lie over the tissue and belong to these slides",
        )
