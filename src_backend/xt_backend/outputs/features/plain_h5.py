"""Layout ``h5``: two datasets and nothing that belongs to one tool."""

from __future__ import annotations

from collections.abc import Iterator

from xt_backend.outputs.features.h5_file import H5Dataset, h5_file
from xt_backend.outputs.features.layout import Layout, Writer
from xt_backend.outputs.features.table import FeatureKind, FeatureTable

__all__ = ["PlainH5"]


class PlainH5(Layout):
    """``<slide>.h5`` with ``features`` (n, D) float32 and ``coords`` (n, 2) int64, level-0 px.

    Prov-GigaPath's fine-tuning reads it so, and whoever wrote a loader for TRIDENT or CLAM.
    """

    name = "h5"

    def files(self, kind: FeatureKind, slide_id: str) -> tuple[str, ...]:
        """See `Layout`."""
        return (f"{slide_id}.h5",)

    def writers(self, table: FeatureTable) -> Iterator[Writer]:
        """See `Layout`."""
        yield h5_file(
            {"features": H5Dataset(table.squeezed), "coords": H5Dataset(table.boxes[:, :2])}
        )
