"""Names to layouts; a further one is a module and a line here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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


def write_features(
    layout: Layout,
    out: Path,
    table: FeatureTable,
    on_written: Callable[[dict[str, str]], None] | None = None,
) -> tuple[Path, ...]:
    """Publish the files of a slide, the one that says that it is done last.

    Args:
        layout: Their form.
        out: Folder below which they go.
        table: The features.
        on_written: Told the sha256 of each file by its place below `out`, when all of them are
            written and the last is about to be published.

    Returns:
        The files.

    Raises:
        UsageError: The values do not fit the layout.
        NoSpaceError: The disk is full.
        OutputError: A folder cannot be written.
    """
    names = layout.files(table.kind, table.slide_id)
    digests: dict[str, str] = {}
    for name, write in zip(names, layout.writers(table), strict=True):
        path = out / name
        make_folder(path.parent)
        with publish(path) as temp, open(temp, "rb+") as file:
            write(file)
            if on_written is not None:
                file.seek(0)
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
                if name == names[-1]:
                    on_written(digests)
    return tuple(out / name for name in names)
