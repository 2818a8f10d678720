"""The index of a region store: a description of its folder that nothing depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import StoreCorruptError
from xt_backend.keys import StoreH5
from xt_backend.publishing import publish_bytes
from xt_backend.store.plain import writer_version
from xt_backend.store.shard import check_schema
from xt_backend.store.store_key import StoreKey

__all__ = ["StoreIndex", "read_index", "store_folder", "write_index"]

_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class StoreIndex:
    """What the index says.

    Attributes:
        key: What the store is made from.
        version: The napari-xt that wrote it last.
        shards: Rows by name of shard; those that a killed process left may be missing.
    """

    key: StoreKey
    version: str
    shards: dict[str, int]


def store_folder(cache_dir: Path, key: StoreKey) -> Path:
    """Where the store of a key lies in a cache, whether it exists or not."""
    digest = key.digest()
    return cache_dir / digest[:2] / digest


def read_index(folder: Path) -> StoreIndex | None:
    """Read the index of a store; None where there is none.

    Raises:
        StoreVersionError: It was written by a newer version.
        StoreCorruptError: It cannot be read or understood.
    """
    path = folder / StoreH5.INDEX
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StoreCorruptError(f"{path.name} is larger than {_MAX_BYTES} bytes")
        index = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreCorruptError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{path.name} cannot be read ({error})") from error
    if not isinstance(index, dict):
        raise StoreCorruptError(f"{path.name} is no index")
    version = str(index.get("version"))
    check_schema(path.name, index.get("schema"), StoreH5.SCHEMA, version)
    shards = index.get("shards")
    if not isinstance(shards, dict) or not all(isinstance(n, int) for n in shards.values()):
        raise StoreCorruptError(f"{path.name} lists no shards")
    try:
        return StoreIndex(StoreKey.from_dict(index.get("key")), version, shards)
    except ValueError as error:
        raise StoreCorruptError(f"{path.name} holds {error}") from error


def write_index(folder: Path, key: StoreKey, shards: dict[str, int]) -> None:
    """Publish the index of a store.

    Args:
        folder: The store's folder.
        key: What the store is made from.
        shards: Rows by name of shard.

    Raises:
        OutputError: It cannot be written.
    """
    index = {
        "schema": StoreH5.SCHEMA,
        "version": writer_version(),
        "key_digest": key.digest(),
        "key": key.to_dict(),
        "shards": shards,
    }
    # Nothing depends on it, and flushing would double the time of a small append.
    publish_bytes(folder / StoreH5.INDEX, json.dumps(index, indent=1).encode(), durable=False)
