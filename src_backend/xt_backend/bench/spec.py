"""What a run of benchmarks is asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from xt_backend.config import Options

__all__ = ["BenchSpec"]


class BenchSpec(Options):
    """One run of benchmarks.

    Attributes:
        names: Benchmarks, in this order; when empty all but those that take hours.
        out: Folder of the page, its pictures and the measurements.
        quick: Sizes that only show that everything works.
        seeds: Trainings of each kind, with seeds from 0.
        data: Folder of real labelled images, as in docs/bench.md; None leaves those out.
        work: Folder for sample slides and features, kept for next time; None takes the user's
            cache folder.
        peer_pythons: Of other environments that have tools to compare with; the one that this runs
            in is always looked into.
        resume: Keep what `out` already holds of the same measurements; False measures anew.
    """

    names: tuple[str, ...] = ()
    out: Path = Path("benchmarks")
    quick: bool = False
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    data: Path | None = None
    work: Path | None = None
    peer_pythons: tuple[Path, ...] = ()
    resume: bool = True

    def work_folder(self) -> Path:
        """Folder for sample slides and features."""
        if self.work is not None:
            return self.work
        import platformdirs

        return Path(platformdirs.user_cache_dir("napari-xt", appauthor=False)) / "bench"
