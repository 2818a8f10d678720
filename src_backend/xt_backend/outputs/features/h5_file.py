"""HDF5 files as other tools want them: attributes on datasets, and datasets that may grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy.typing as npt

from xt_backend.outputs.features.layout import Writer
from xt_backend.store import Blocks, H5Stream, h5_stream

__all__ = ["Attrs", "H5Dataset", "add_dataset", "h5_file"]

_ROWS_PER_CHUNK = 256
"""Readers do not care; chunks of one row, as some tools write them, take ten times as long."""

Attrs = Mapping[str, str | int | float | npt.NDArray[Any]]


@dataclass(frozen=True)
class H5Dataset:
    """An array with its attributes."""

    data: npt.NDArray[Any] | Blocks
    attrs: Attrs = field(default_factory=dict)


def h5_file(datasets: Mapping[str, H5Dataset], attrs: Attrs | None = None) -> Writer:
    """Write an HDF5 file, uncompressed; the same content gives the same bytes.

    Args:
        datasets: By name.
        attrs: Of the root.
    """

    def write(file: IO[bytes]) -> None:
        with h5_stream(file) as stream:
            for name, dataset in datasets.items():
                add_dataset(stream, name, dataset)
            stream.file.attrs.update(attrs or {})

    return write


def add_dataset(stream: H5Stream, name: str, dataset: H5Dataset) -> None:
    """Write a dataset that may grow, block by block.

    Raises:
        OSError: It could not be written.
    """
    data = dataset.data
    made = stream.file.create_dataset(
        name,
        data.shape,
        data.dtype,
        chunks=(min(_ROWS_PER_CHUNK, max(1, len(data))), *data.shape[1:]),
        maxshape=(None, *data.shape[1:]),
    )
    for _ in stream.fill(made, data):
        pass
    made.attrs.update(dataset.attrs)
