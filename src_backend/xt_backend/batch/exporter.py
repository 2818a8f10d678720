"""What `export_run` asks of a form in which a run can be written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from xt_backend.outputs import SlideRow

__all__ = ["Exporter"]


class Exporter(ABC):
    """Writes the slides of one run in one form.

    Attributes:
        default_folder: Where its files lie below the run directory.
    """

    default_folder = ""

    @abstractmethod
    def write(self, folder: Path, row: SlideRow) -> tuple[Path, ...]:
        """The files of one slide that is done or empty."""

    def finish(self, folder: Path) -> tuple[Path, ...]:
        """What goes with all of them."""
        del folder
        return ()
