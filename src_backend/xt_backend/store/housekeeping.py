"""A cache kept in order: what is damaged in it, and what has to go when it grows too large."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import XTError
from xt_backend.keys import RunFile, StoreH5
from xt_backend.store.cache import StoreInfo, list_stores, remove_store
from xt_backend.store.region_store import RegionStore

__all__ = ["Pruned", "all_stores", "prune_cache", "verify_store"]


@dataclass(frozen=True)
class Pruned:
    """What `prune_cache` did.

    Attributes:
        removed: The stores that went, the longest unused first.
        freed_bytes: Size of all that went.
        left_bytes: Size of the stores that stay.
    """

    removed: tuple[StoreInfo, ...]
    freed_bytes: int
    left_bytes: int


def all_stores(cache_dir: Path) -> list[StoreInfo]:
    """Stores of features and of measures, the longest unused first.

    Args:
        cache_dir: The cache's folder; there need not be one.
    """
    found = [info for root in _roots(cache_dir) for info in list_stores(root)]
    return sorted(found, key=lambda info: (info.used, info.digest))


def verify_store(info: StoreInfo) -> list[str]:
    """Read a store to its end, and move aside what is damaged.

    Args:
        info: The store.

    Returns:
        What was found, as sentences.
    """
    if info.key is None:
        return [f"Store {info.digest[:12]}: {info.problem}; it was not looked at"]
    index = info.folder / StoreH5.INDEX
    with contextlib.suppress(OSError):
        before = index.stat()
    try:
        return RegionStore.open(info.folder.parents[1], info.key).verify()
    except XTError as error:
        return [str(error)]
    finally:
        with contextlib.suppress(OSError, UnboundLocalError):
            os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))  # no use of it


def prune_cache(cache_dir: Path, max_bytes: int | None = None) -> Pruned:
    """Remove what no run can use and, above a size, the stores that were longest unused.

    Runs that use a store which goes find its rows gone, and encode them again.

    Args:
        cache_dir: The cache's folder.
        max_bytes: Size that the stores may have; None for any.

    Raises:
        OutputError: Something cannot be deleted.
    """
    freed = sum(map(_remove_useless, _roots(cache_dir)))
    stores = all_stores(cache_dir)
    left = sum(info.size_bytes for info in stores)
    removed = []
    for info in stores:
        if max_bytes is None or left <= max_bytes:
            break
        freed += remove_store(info.folder)
        left -= info.size_bytes
        removed.append(info)
    return Pruned(tuple(removed), freed, left)


def _roots(cache_dir: Path) -> Iterator[Path]:
    yield cache_dir
    yield cache_dir / StoreH5.QUALITY


def _remove_useless(root: Path) -> int:
    """Shards that were moved aside, and stores that were half deleted when somebody was killed."""
    freed = 0
    for path in root.glob(f"[0-9a-f][0-9a-f]/*/*{RunFile.BAD}"):
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            freed += size
    for path in root.glob(f"[0-9a-f][0-9a-f]/*{RunFile.PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)
    return freed
