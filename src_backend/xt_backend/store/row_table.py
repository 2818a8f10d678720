"""Where each cell's row lies among the shards of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xt_backend.store.shard import Shard

__all__ = ["RowTable"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowTable:
    """Sorted cells with the shard and row that count for each.

    Attributes:
        keys: (m,) int64, sorted, one per cell.
        shard: (m,) int64, index of the shard.
        row: (m,) int64, row in that shard.
    """

    keys: Ints
    shard: Ints
    row: Ints

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def cells(self) -> npt.NDArray[np.int32]:
        """(m, 2) int32, (col, row), in the order of `keys`."""
        return np.stack([self.keys >> 32, self.keys & 0xFFFFFFFF], axis=1).astype(np.int32)

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> RowTable:
        """Of all rows of shards; of a cell's rows the last one of the last shard counts."""
        sizes = [len(shard) for shard in shards]
        empty = np.empty(0, np.int64)
        keys = np.concatenate([empty, *(_as_keys(shard.cells) for shard in shards)])
        shard = np.repeat(np.arange(len(shards), dtype=np.int64), sizes)
        row = np.concatenate([empty, *(np.arange(size, dtype=np.int64) for size in sizes)])
        order = np.argsort(keys, kind="stable")
        keys, shard, row = keys[order], shard[order], row[order]
        last = np.append(keys[1:] != keys[:-1], True) if len(keys) else np.empty(0, bool)
        return cls(keys[last], shard[last], row[last])

    def find(self, cells: npt.NDArray[np.int32]) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Look cells up.

        Args:
            cells: (n, 2) int, (col, row).

        Returns:
            shard: (n,) int64, -1 where the cell is not there.
            row: (n,) int64, -1 where the cell is not there.
            found: (n,) bool.
        """
        wanted = _as_keys(np.asarray(cells).reshape(-1, 2))
        missing = np.full(len(wanted), -1, np.int64)
        if not len(self.keys):
            return missing, missing, np.zeros(len(wanted), bool)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        found = self.keys[place] == wanted
        return (
            np.where(found, self.shard[place], -1),
            np.where(found, self.row[place], -1),
            found,
        )


def _as_keys(cells: npt.NDArray[np.int32]) -> Ints:
    """One int64 per cell, unique for all of int32."""
    wide = cells.astype(np.int64)
    keys: Ints = (wide[:, 0] << 32) + (wide[:, 1] & 0xFFFFFFFF)
    return keys
