"""Sample slides in the working folder, written once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xt_backend.samples import write_samples

__all__ = ["sample_slides"]


def sample_slides(work: Path, n: int, size_px: int, seed: int, tell: Callable[[str], None]) -> Path:
    """A folder with `n` annotated sample slides; what is there already is kept.

    Args:
        work: The working folder.
        n: Slides.
        size_px: Side of each.
        seed: Of the slides.
        tell: Takes a line about what is being done.

    Raises:
        OutputError: They cannot be written.
    """
    folder = work / "slides" / f"{size_px}px-seed{seed}-n{n}"
    # The last file of the last slide: all others were complete before it.
    if not (folder / f"sample_{seed}_{n - 1}.truth.png").exists():
        write_samples(
            folder,
            n=n,
            size_px=size_px,
            seed=seed,
            progress=lambda done: tell(f"writing sample slide {min(n, int(done) + 1)} of {n}"),
        )
    return folder
