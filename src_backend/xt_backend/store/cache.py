"""A cache: the folder that holds region stores, and what is in it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from xt_backend.errors import OutputError, StoreError
from xt_backend.keys import RunFile, StoreH5
from xt_backend.store.store_index import read_index
from xt_backend.store.store_key import StoreKey

__all__ = ["StoreInfo", "disk_use", "keys_of_slide", "list_stores", "remove_store"]

_STORE_NAME = re.compile(r"[0-9a-f]{64}")
_keys: dict[Path, StoreKey] = {}
"""By the folder of their store, whose name is made from them, so that they never change."""


@dataclass(frozen=True)
class StoreInfo:
    """One region store in a cache, as its folder and index describe it.

    Attributes:
        folder: The store's folder.
        digest: Digest of its key.
        key: What it is made from; None where the index cannot say.
        version: The napari-xt that wrote it last, "" where the index cannot say.
        n_shards: Number of shards.
        n_bad: Number of shards that were moved aside.
        n_regions: Number of rows that the index lists.
        size_bytes: Size of all its files.
        used: When it was last written or opened, in seconds since the epoch.
        problem: Why the index cannot be used, "" where it can.
    """

    folder: Path
    digest: str
    key: StoreKey | None
    version: str
    n_shards: int
    n_bad: int
    n_regions: int
    size_bytes: int
    used: float
    problem: str


def list_stores(cache_dir: Path) -> list[StoreInfo]:
    """Describe the region stores of a cache, the longest unused first.

    Shards are not opened: `RegionStore.verify` does that.
    """
    return sorted(map(_describe, _store_folders(cache_dir)), key=lambda s: (s.used, s.digest))


def keys_of_slide(cache_dir: Path, slide: str) -> list[StoreKey]:
    """Keys of the region stores that hold something of a slide; unreadable ones are left out.

    Each index is read once a process: a cache may hold thousands.

    Args:
        cache_dir: The cache's folder; there need not be one.
        slide: Identity of the slide's content.
    """
    found = []
    for folder in _store_folders(cache_dir):
        key = _keys.get(folder)
        if key is None:
            try:
                index = read_index(folder)
            except StoreError:
                continue
            if index is None:
                continue
            key = _keys[folder] = index.key
        if key.slide == slide:
            found.append(key)
    return found


def disk_use(folder: Path) -> int:
    """Size of all files below a folder, in bytes; 0 where there is no such folder."""
    return sum(size for _, size, _ in _files(folder))


def remove_store(folder: Path) -> int:
    """Delete a region store.

    It disappears at once: who is reading it finds its rows gone, never half of them wrong.

    Args:
        folder: A store's folder, as in `StoreInfo.folder`.

    Returns:
        The number of bytes that were freed.

    Raises:
        StoreError: The folder is no region store.
        OutputError: It cannot be deleted.
    """
    if not _STORE_NAME.fullmatch(folder.name) or not folder.is_dir() or folder.is_symlink():
        raise StoreError(f"{folder.name} is no region store", "Name a folder of `cache list`")
    size = disk_use(folder)
    doomed = folder.with_name(f"{folder.name[:12]}.{uuid4().hex}{RunFile.PARTIAL}")
    try:
        os.replace(folder, doomed)
        # Also what a killed process left half deleted.
        for leftover in folder.parent.parent.glob(f"[0-9a-f][0-9a-f]/*{RunFile.PARTIAL}"):
            shutil.rmtree(leftover, ignore_errors=leftover != doomed)
    except OSError as error:
        raise OutputError(
            f"Cannot delete {folder} ({error.strerror})", "Check the permissions of the cache"
        ) from error
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
    return size


def _store_folders(cache_dir: Path) -> Iterator[Path]:
    for folder in sorted(cache_dir.glob("[0-9a-f][0-9a-f]/*")):
        if _STORE_NAME.fullmatch(folder.name) and folder.name[:2] == folder.parent.name:
            yield folder


def _describe(folder: Path) -> StoreInfo:
    files = list(_files(folder))
    index, problem = None, "it has no index"
    try:
        index = read_index(folder)
    except StoreError as error:
        problem = error.cause
    return StoreInfo(
        folder=folder,
        digest=folder.name,
        key=index.key if index else None,
        version=index.version if index else "",
        n_shards=sum(name.endswith(StoreH5.SHARD_SUFFIX) for name, _, _ in files),
        n_bad=sum(name.endswith(RunFile.BAD) for name, _, _ in files),
        n_regions=sum(index.shards.values()) if index else 0,
        size_bytes=sum(size for _, size, _ in files),
        used=max((used for _, _, used in files), default=0.0),
        problem="" if index else problem,
    )


def _files(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Name, size and time of use of every file below a folder; files may vanish meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.stat(os.path.join(parent, name), follow_symlinks=False)
                yield name, found.st_size, found.st_mtime
