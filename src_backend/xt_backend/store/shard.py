"""One shard of a region store: the tokens of one finished block of work, never changed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xt_backend.errors import StoreCorruptError, StoreVersionError
from xt_backend.keys import PRODUCT, StoreH5
from xt_backend.publishing import publish_bytes
from xt_backend.store.h5 import H5Reader, content_digest, h5_image, open_checked
from xt_backend.store.plain import canonical_json, writer_version
from xt_backend.store.store_key import StoreKey

__all__ = ["SHARD_BYTES", "Shard", "check_schema", "read_shard", "write_shard"]

SHARD_BYTES = 64 << 20
"""Features per shard at most; larger blocks are split."""

_BUDGET_BYTES = 16 * SHARD_BYTES


@dataclass
class Shard:
    """What is known of a shard without its features.

    Attributes:
        path: The file.
        cells: (n, 2) int32, (col, row).
        status: (n,) uint8, `RegionStatus`.
        tokens: (kk, D): tokens per region and their length.
        verified: Whether all its content has been compared with its digest.
    """

    path: Path
    cells: npt.NDArray[np.int32]
    status: npt.NDArray[np.uint8]
    tokens: tuple[int, int]
    verified: bool = False

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def features_bytes(self) -> int:
        """Size of its features."""
        return len(self) * self.tokens[0] * self.tokens[1] * np.dtype(np.float16).itemsize

    def features(
        self, first: int, last: int, out: npt.NDArray[np.float16] | None = None
    ) -> npt.NDArray[np.float16]:
        """Read the rows from `first` up to, not including, `last`.

        The first time the whole shard is read and compared with its digest.

        Args:
            first: Row.
            last: Row.
            out: (last - first, kk, D) float16, C-contiguous: where to put them, since fresh memory
                costs more than reading. None makes room.

        Returns:
            (last - first, kk, D) float16.

        Raises:
            StoreCorruptError: The shard is damaged.
            StoreError: It is gone or may not be read.
        """
        with open_checked(self.path, _BUDGET_BYTES) as reader:
            shape = (len(self), *self.tokens)
            if self.verified:
                return reader.read(StoreH5.FEATURES, np.float16, shape, slice(first, last), out)
            whole = last - first == len(self)
            features = reader.read(
                StoreH5.FEATURES, np.float16, shape, None, out if whole else None
            )
            reader.check_digest(_datasets(self.cells, self.status, features))
            self.verified = True
            if whole:
                return features
            if out is None:
                return features[first:last]
            out[:] = features[first:last]
            return out


def write_shard(
    folder: Path,
    key: StoreKey,
    cells: npt.NDArray[np.int32],
    status: npt.NDArray[np.uint8],
    features: npt.NDArray[np.float16],
) -> Shard:
    """Publish a shard. Its name is its content's digest, so equal blocks are one file.

    Raises:
        OutputError: It cannot be written.
    """
    datasets = _datasets(cells, status, features)
    attrs: dict[str, str | int | float] = {
        StoreH5.ATTR_SCHEMA: StoreH5.SCHEMA,
        StoreH5.ATTR_VERSION: writer_version(),
        StoreH5.ATTR_KEY: canonical_json(key.to_dict()),
        StoreH5.ATTR_KEY_DIGEST: key.digest(),
        StoreH5.ATTR_ROWS: len(cells),
        StoreH5.ATTR_COMPLETE: 1,
    }
    digest = content_digest(datasets, attrs)
    path = folder / f"{digest[:32]}{StoreH5.SHARD_SUFFIX}"
    publish_bytes(path, h5_image(datasets, attrs, digest=digest))
    return Shard(path, cells, status, (features.shape[1], features.shape[2]))


def read_shard(path: Path, key: StoreKey) -> Shard:
    """Read and check everything of a shard but its features.

    Raises:
        StoreVersionError: It was written by a newer version.
        StoreCorruptError: It is damaged, incomplete or made from something else than `key`.
        StoreError: It is gone or may not be read.
    """
    with open_checked(path, _BUDGET_BYTES) as reader:
        check_schema(
            path.name,
            reader.attr(StoreH5.ATTR_SCHEMA, int),
            StoreH5.SCHEMA,
            reader.attrs.get(StoreH5.ATTR_VERSION),
        )
        _check_key(reader, key)
        rows = reader.attr(StoreH5.ATTR_ROWS, int)
        if reader.attr(StoreH5.ATTR_COMPLETE, int) != 1:
            raise reader.corrupt("is not complete")
        shape = reader.shapes.get(StoreH5.FEATURES, ())
        if len(shape) != 3 or shape[0] != rows:
            raise reader.corrupt(f"has features of shape {shape} for {rows} rows")
        return Shard(
            path,
            reader.read(StoreH5.CELL, np.int32, (rows, 2)),
            reader.read(StoreH5.STATUS, np.uint8, (rows,)),
            (shape[1], shape[2]),
        )


def check_schema(name: str, found: object, known: int, version: object) -> None:
    """Refuse what a newer version wrote; older layouts are read.

    Raises:
        StoreVersionError: `found` is newer than `known`.
        StoreCorruptError: `found` is no version at all.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise StoreCorruptError(
            f"{name} has no valid schema number", "Delete it and run again to make it anew"
        )
    if found > known:
        raise StoreVersionError(
            f"{name} was written by {PRODUCT} {version} with schema {found}, "
            f"and this version reads up to {known}",
            f"Upgrade {PRODUCT}",
        )


def _check_key(reader: H5Reader, key: StoreKey) -> None:
    try:
        found = StoreKey.from_dict(json.loads(reader.attr(StoreH5.ATTR_KEY, str)))
    except ValueError as error:
        raise reader.corrupt("has no readable key") from error
    if different := key.differences(found):
        raise reader.corrupt(f"was made from something else: {different[0]}")


def _datasets(
    cells: npt.NDArray[np.int32],
    status: npt.NDArray[np.uint8],
    features: npt.NDArray[np.float16],
) -> dict[str, npt.NDArray[np.generic]]:
    return {StoreH5.CELL: cells, StoreH5.STATUS: status, StoreH5.FEATURES: features}
