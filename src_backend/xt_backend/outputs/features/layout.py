"""The contract of a layout: one slide's features to the content of its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import IO, ClassVar, TypeAlias

from xt_backend.outputs.features.table import FeatureKind, FeatureTable, Level

__all__ = ["Layout", "Writer"]

Writer: TypeAlias = Callable[[IO[bytes]], object]
"""Writes a whole file into one that is empty and open for reading and writing."""


class Layout(ABC):
    """How one tool wants the features of a slide.

    Attributes:
        name: As on the command line.
        own_folder: Its files are to lie in a folder of their own, since they have no names that
            tell them from other files of a run.
    """

    name: ClassVar[str]
    own_folder: ClassVar[bool] = True

    def check(self, level: Level) -> None:  # noqa: B027  most have nothing to refuse
        """Find out before any work whether this can be written.

        Args:
            level: Of the features.

        Raises:
            UsageError: A package is missing, or the tool knows no such features.
        """

    @abstractmethod
    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """Places below the output folder, in the order of writing.

        The last file says that the slide is done.
        """

    @abstractmethod
    def writers(self, table: FeatureTable) -> Iterable[Writer]:
        """One for each of `files`; the same table gives the same bytes.

        None holds all the features at once, and each raises:
            UsageError: The values do not fit what the tool reads.
            OSError: The file cannot be written.
        """
