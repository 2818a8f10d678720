"""HDF5 files written block by block, into an open file that is not yet under its final name.

A full disk must not reach libhdf5, which then ends the process on closing its file. The error is
therefore kept from it, and told once it is through.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import h5py
import numpy.typing as npt

from xt_backend.keys import AnyH5
from xt_backend.store.blocks import Blocks, blocks_of
from xt_backend.store.h5 import FORMAT, Attr, chunks, digest_attrs, digest_part, put_attrs

__all__ = ["H5Stream", "h5_stream", "write_h5"]


class _Forgiving:
    """A file whose writing never fails.

    The first error is kept. What is written from then on, a block and libhdf5's own records at
    most, stays in memory, where it is found again.
    """

    def __init__(self, file: IO[bytes]) -> None:
        # A buffer that cannot be emptied would make seeking fail.
        self._file = file.raw if isinstance(file, io.BufferedRandom) else file
        self._place = 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            place += max(
                self._file.seek(0, io.SEEK_END), *(at + len(data) for at, data in self._kept), 0
            )
        elif whence == io.SEEK_CUR:
            place += self._place
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        self._file.seek(self._place)
        found = bytearray(size)
        data = self._file.read(size)
        found[: len(data)] = data
        for at, data in self._kept:
            first, last = max(at, self._place), min(at + len(data), self._place + size)
            if first < last:
                found[first - self._place : last - self._place] = data[first - at : last - at]
        self._place += size
        return bytes(found)

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            self._file.seek(self._place)
            while rest and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        if rest:
            self._kept.append((self._place + size - len(rest), bytes(rest)))
        self._place += size
        return size

    def truncate(self, size: int) -> int:
        try:
            if self.error is None:
                self._file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def flush(self) -> None:
        """Nothing is buffered."""


class H5Stream:
    """An HDF5 file being written; made by `h5_stream`.

    Attributes:
        file: The file of h5py, for attributes and small datasets.
    """

    def __init__(self, file: h5py.File, below: _Forgiving) -> None:
        self.file = file
        self._below = below

    def fill(self, dataset: Any, data: npt.NDArray[Any] | Blocks) -> Iterator[npt.NDArray[Any]]:
        """Write the rows of a dataset, yielding each block once it is written.

        Args:
            dataset: Of h5py, as large as `data`.
            data: What to put there.

        Raises:
            OSError: It could not be written.
        """
        first = 0
        for block in blocks_of(data):
            dataset[first : first + len(block)] = block
            first += len(block)
            self.check()
            yield block

    def check(self) -> None:
        """Tell whether something could not be written.

        Raises:
            OSError: It could not.
        """
        if self._below.error is not None:
            raise self._below.error


@contextmanager
def h5_stream(file: IO[bytes], **options: Any) -> Iterator[H5Stream]:
    """Write an HDF5 file into an open, empty one; the same content gives the same bytes.

    Args:
        file: Open for reading and writing.
        options: Further arguments of `h5py.File`.

    Raises:
        OSError: It could not be written.
    """
    below = _Forgiving(file)
    with h5py.File(below, "w", **options) as made:
        stream = H5Stream(made, below)
        yield stream
    stream.check()


def write_h5(
    file: IO[bytes], datasets: Mapping[str, npt.NDArray[Any] | Blocks], attrs: Mapping[str, Attr]
) -> None:
    """Write a flat HDF5 file of our own, as `h5_image` does, without holding it.

    Args:
        file: Open for reading and writing, empty.
        datasets: Arrays of numbers by name, of one axis at least.
        attrs: Text and numbers by name, any length.

    Raises:
        OSError: It could not be written.
    """
    sha = hashlib.sha256()
    digest_attrs(sha, attrs)
    with h5_stream(file, libver=FORMAT) as stream:
        for name in sorted(datasets):
            data = datasets[name]
            options = {"chunks": chunks(data), "fletcher32": True} if data.nbytes else {}
            made = stream.file.create_dataset(name, data.shape, data.dtype, **options)
            digest_part(sha, name, data, stream.fill(made, data))
        put_attrs(stream.file, {**attrs, AnyH5.ATTR_DIGEST: sha.hexdigest()})
