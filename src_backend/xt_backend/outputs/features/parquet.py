"""Layout ``parquet``: a row a region, its features as one list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from xt_backend.outputs.features.columns import row_columns
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable, Level
from xt_backend.outputs.parquet import ABOUT, check_parquet

__all__ = ["Parquet"]


class Parquet(Layout):
    """``<id>.features.parquet``; ``features`` is a list of D float32, of fixed size."""

    name = "parquet"
    own_folder = False

    def check(self, level: Level) -> None:
        """See `Layout`."""
        check_parquet()

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        return (f"{slide_id}.{kind.prefix}features.parquet",)

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        yield lambda file: _write(file, table)


def _write(file: IO[bytes], table: FeatureTable) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    matrix = table.matrix
    columns = {
        "slide": pa.array([table.slide_id] * len(matrix), pa.string()),
        **{
            name: pa.array(values, pa.string() if isinstance(values, list) else None)
            for name, values in row_columns(table).items()
        },
    }
    place = pa.field("features", pa.list_(pa.float32(), table.dim))
    rest = pa.table(columns)
    about = {ABOUT: json.dumps(table.about()).encode()}
    schema = rest.schema.append(place).with_metadata(about)
    first = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for block in matrix:
            flat = pa.array(block.ravel())
            some = rest.slice(first, len(block)).append_column(
                place, pa.FixedSizeListArray.from_arrays(flat, table.dim)
            )
            writer.write_table(some.cast(schema))
            first += len(block)
