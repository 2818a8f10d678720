"""The folder in which a Ray cluster of our own keeps its files."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["session_folder"]

_PREFIX = "xt-ray-"
_LOCK = "in-use"
_DAY_S = 86_400.0


@contextmanager
def session_folder() -> Iterator[Path]:
    """A temporary folder, removed at the end.

    What a process could not remove that was killed is removed by the next one: the system lets go
    of a lock with the process that held it, whatever ended that.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        lock = FileLock(Path(name, _LOCK))
        with lock:
            yield Path(name)


def _sweep(parent: Path) -> None:
    """Remove the folders of this user that nobody uses any more."""
    for folder in sorted(parent.glob(f"{_PREFIX}*")):
        try:
            is_ours = not folder.is_symlink() and folder.is_dir()
            if hasattr(os, "getuid"):
                is_ours = is_ours and folder.stat().st_uid == os.getuid()
            if is_ours and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # another process has just removed it


def _is_left(folder: Path) -> bool:
    lock = folder / _LOCK
    if not lock.is_file():  # just made, or of a version that knew no lock
        return time.time() - folder.stat().st_mtime > _DAY_S
    try:
        with FileLock(lock, timeout=0):
            return True
    except Timeout:
        return False
