"""The copy of an image as a slide file, kept as long as its layer."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock, Timeout

from xt_backend.config import cache_folder
from xt_backend.errors import NoSpaceError

if TYPE_CHECKING:
    from napari_xt.any_image.source import ImageSource

__all__ = ["Cancelled", "SlideCopy", "copy_image"]

_SPARE_BYTES = 512 * 2**20
_NEW_S = 60
"""A folder this young may not be locked yet by whoever makes it."""


class Cancelled(Exception):
    """Nobody wants the copy any more."""


class SlideCopy:
    """A slide file of ours in a folder of its own, which nobody else sweeps away.

    Args:
        folder: Goes with this object, or with napari.
        path: The file in it.
    """

    def __init__(self, folder: Path, path: Path) -> None:
        self.path = path
        lock = _lock_of(folder)
        with contextlib.suppress(OSError, NotImplementedError):  # a file system without locks
            lock.acquire(blocking=False)
        self._remove = weakref.finalize(self, _remove, folder, lock)

    def remove(self) -> None:
        """Delete the file."""
        self._remove()


def _lock_of(folder: Path) -> FileLock:
    # It is given back in another thread than takes it.
    return FileLock(folder / "in-use", thread_local=False)


def _remove(folder: Path, lock: BaseFileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def _sweep(above: Path) -> None:
    """Remove the copies that programs left behind which were killed."""
    for folder in above.iterdir():
        with contextlib.suppress(OSError, Timeout, NotImplementedError):  # in use, or no locks
            if time.time() - folder.stat().st_mtime > _NEW_S:
                lock = _lock_of(folder)
                lock.acquire(blocking=False)
                _remove(folder, lock)


def copy_image(
    source: ImageSource,
    name: str,
    told: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> SlideCopy:
    """Write an image, without loss, as a pyramid that is read as any slide is.

    The same pixels and pixel size give the same bytes, so that what is stored of them is found
    again.

    Args:
        source: The image.
        name: Of its layer; the file is named so.
        told: Rows done, and rows in all.
        cancelled: Asked after every strip.

    Raises:
        Cancelled: It was cancelled; nothing is left.
        NoSpaceError: There may be no room for it.
        OutputError: It cannot be written.
    """
    from xt_backend.publishing import make_folder, publish
    from xt_backend.samples.pyramid import write_pyramid

    above = cache_folder().parent / "images"
    make_folder(above)
    _sweep(above)
    if shutil.disk_usage(above).free < source.n_bytes + _SPARE_BYTES:
        raise NoSpaceError(
            f"A copy of {name} takes up to {source.n_bytes / 1e9:.1f} GB, more than is free in the "
            "cache",
            "Free some space, or name another disk with NAPARI_XT_CACHE",
        )
    folder = Path(tempfile.mkdtemp(dir=above))
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._") or "image"
    copy = SlideCopy(folder, folder / f"{stem}.tiff")
    width, height = source.size_px

    def on_rows(done: int) -> None:
        if cancelled():
            raise Cancelled
        told(done, height)

    try:
        with publish(copy.path, needed_bytes=source.n_bytes) as partial:
            write_pyramid(
                partial, source.strips(on_rows), width, height, mpp=source.mpp, quality=None
            )
    except BaseException:
        copy.remove()
        raise
    return copy


def remove_with(layers: Any, layer: Any, copy: SlideCopy) -> None:
    """Delete a copy when its layer leaves the viewer.

    Args:
        layers: The viewer's.
        layer: That shows the copy.
        copy: The file.
    """

    def on_removed(event: Any) -> None:
        if event.value is layer:
            layers.events.removed.disconnect(on_removed)
            copy.remove()

    layers.events.removed.connect(on_removed)
