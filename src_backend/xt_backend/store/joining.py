"""Which small shards of a region store are put together, and in what portions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from xt_backend.store.row_table import RowTable
from xt_backend.store.shard import Shard

__all__ = ["portions", "small_shards"]

JOINED_BYTES = 16 << 20
"""Features in a shard of what is put together: it is read whole to be checked."""


def small_shards(shards: Mapping[str, Shard]) -> list[str]:
    """Names of the shards that take longer to open than to read, sorted."""
    return sorted(
        name for name, shard in shards.items() if 2 * shard.features_bytes <= JOINED_BYTES
    )


def portions(
    table: RowTable, shards: Mapping[str, Shard], names: list[str]
) -> Iterator[npt.NDArray[np.int32]]:
    """Cells of the shards to be made, in raster order: that in which runs ask for them.

    Args:
        table: Of all the shards, sorted by name.
        shards: All of them.
        names: The small ones. Cells that count in another shard stay there.

    Yields:
        (n, 2) int32, (col, row).
    """
    cells = table.cells[np.isin(table.shard, np.searchsorted(sorted(shards), names))]
    cells = cells[np.lexsort((cells[:, 0], cells[:, 1]))]
    some = shards[names[0]]
    size = max(1, JOINED_BYTES * len(some) // max(1, some.features_bytes))
    for first in range(0, len(cells), size):
        yield cells[first : first + size]
