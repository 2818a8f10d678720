"""Names to layouts; a further one is a module and a line here."""

from __future__ import annotations

from pathlib import Path

from xt_backend.errors import UsageError
from xt_backend.outputs.features.clam import Clam
from xt_backend.outputs.features.h5ad import H5ad
from xt_backend.outputs.features.layout import Layout
from xt_backend.outputs.features.parquet import Parquet
from xt_backend.outputs.features.plain_h5 import PlainH5
from xt_backend.outputs.features.slide2vec import Slide2vec
from xt_backend.outputs.features.stamp import Stamp
from xt_backend.outputs.features.table import FeatureTable
from xt_backend.outputs.features.trident import Trident
from xt_backend.outputs.features.xt import Xt
from xt_backend.publishing import make_folder, publish

__all__ = ["LAYOUTS", "get_layout", "write_features"]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (Xt(), Trident(), Clam(), Stamp(), Slide2vec(), H5ad(), Parquet(), PlainH5())
}


def get_layout(name: str) -> Layout:
    """The layout of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in LAYOUTS:
        raise UsageError(f"There is no layout '{name}'", f"There are: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def write_features(layout: Layout, out: Path, table: FeatureTable) -> tuple[Path, ...]:
    """Publish the files of a slide, the one that says that it is done last.

    Args:
        layout: Their form.
        out: Folder below which they go.
        table: The features.

    Returns:
        The files.

    Raises:
        UsageError: The values do not fit the layout.
        NoSpaceError: The disk is full.
        OutputError: A folder cannot be written.
    """
    paths = tuple(out / name for name in layout.files(table.kind, table.slide_id))
    for path, write in zip(paths, layout.writers(table), strict=True):
        make_folder(path.parent)
        with publish(path) as temp, open(temp, "rb+") as file:
            write(file)
    return paths
