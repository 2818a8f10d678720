"""The contract of a format of predictions: one slide's score map to one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from xt_backend.errors import UsageError
from xt_backend.store.score_map import ScoreMap

__all__ = ["PredictionFormat", "PredictionOptions"]


@dataclass(frozen=True)
class PredictionOptions:
    """What is asked of an export.

    Attributes:
        merged: Outlines of each class instead of regions.
        compressed: Packed with gzip.
        run: Content of the run's run.json.
    """

    merged: bool = False
    compressed: bool = False
    run: Mapping[str, Any] = field(default_factory=dict)


class PredictionFormat(ABC):
    """How one tool wants the predictions of a slide.

    Attributes:
        name: As on the command line.
        own_folder: Its files are to lie in a folder of their own.
        can_merge: It knows `PredictionOptions.merged`.
        can_compress: It knows `PredictionOptions.compressed`.
        needs_slide: The slide itself has to be there.
    """

    name: ClassVar[str]
    own_folder: ClassVar[bool] = False
    can_merge: ClassVar[bool] = False
    can_compress: ClassVar[bool] = False
    needs_slide: ClassVar[bool] = False

    def check(self, options: PredictionOptions) -> None:
        """Find out before any work whether this can be written.

        Raises:
            UsageError: A package is missing, or the format does not know an option.
        """
        for flag, asked, known in (
            ("--merged", options.merged, self.can_merge),
            ("--gzip", options.compressed, self.can_compress),
        ):
            if asked and not known:
                raise UsageError(f"{flag} means nothing for {self.name}", "Leave it out")

    @abstractmethod
    def file(self, slide_id: str, options: PredictionOptions) -> str:
        """Place below the output folder."""

    @abstractmethod
    def write(
        self, path: Path, score_map: ScoreMap, options: PredictionOptions, slide: Path | None
    ) -> None:
        """Publish the file of a slide; the same map gives the same bytes.

        Args:
            path: Where it should go.
            score_map: Of the slide.
            options: As of `check`.
            slide: Where the slide lies, if that is known; only for those that need it.

        Raises:
            SlideError: The slide is needed, and not there or of the wrong kind.
            OutputError: It cannot be written.
        """

    def finish(self, out: Path, last: ScoreMap, options: PredictionOptions) -> tuple[Path, ...]:
        """Publish what goes with all of them, after at least one slide was written.

        Args:
            out: The output folder.
            last: The last map that was written.
            options: As of `check`.
        """
        del out, last, options
        return ()
