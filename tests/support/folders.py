"""Folders that scripts work in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["folder_for"]


@contextmanager
def folder_for(keep: Path | None) -> Iterator[Path]:
    """A new folder that stays, or without a name for it one that is gone afterwards."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
