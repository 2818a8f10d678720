"""HDF5 files of our own: images built in memory, and reading that trusts nothing.

libhdf5 never writes at a real path: killed or out of space it leaves files that do not open, and
may take the process along. An image is therefore built in memory and published as bytes. On
reading, everything that a file declares is checked before any data is read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from xt_backend.errors import StoreCorruptError, StoreError
from xt_backend.keys import AnyH5
from xt_backend.store.blocks import Blocks, blocks_of

__all__ = ["H5Reader", "content_digest", "h5_image", "open_checked"]

CHUNK_BYTES = 1 << 20
_MAX_NAMES = 64
_MAX_ATTRS_BYTES = 64 << 20
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# From this version of the format on, libhdf5 puts checksums on everything that is not data.
FORMAT = ("v110", "v110")
# What h5py raises over a damaged file, depending on where the damage is.
_H5_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, SystemError)
_DAMAGED_WAY_OUT = "Delete it and run again to make it anew"

_numbers = itertools.count()

Array = npt.NDArray[Any]
Attr = str | int | float


def content_digest(datasets: Mapping[str, Array | Blocks], attrs: Mapping[str, Attr]) -> str:
    """SHA-256 of datasets (names, types, shapes, values) and attributes, as 64 hex digits."""
    sha = hashlib.sha256()
    digest_attrs(sha, attrs)
    for name in sorted(datasets):
        data = datasets[name]
        digest_part(sha, name, data, blocks_of(data))
    return sha.hexdigest()


def digest_attrs(sha: Any, attrs: Mapping[str, Attr]) -> None:
    """The first part of `content_digest`."""
    named = {name: value for name, value in attrs.items() if name != AnyH5.ATTR_DIGEST}
    sha.update(json.dumps(named, sort_keys=True).encode())


def digest_part(sha: Any, name: str, data: Array | Blocks, blocks: Iterator[Array]) -> None:
    """The part of `content_digest` of one dataset, whose rows `blocks` yields."""
    sha.update(json.dumps([name, data.dtype.str, data.shape or (1,)]).encode())
    for block in blocks:
        sha.update(np.ascontiguousarray(block).data)


def memory_file(**options: Any) -> h5py.File:
    """An HDF5 file to be written in memory, open, for its `get_file_image`.

    libhdf5 tells such files apart by their names: two threads may be writing one at a time.

    Args:
        options: Further arguments of `h5py.File`.
    """
    return h5py.File(
        f"image-{next(_numbers)}",
        "w",
        driver="core",
        backing_store=False,
        block_size=CHUNK_BYTES,
        **options,
    )


def h5_image(
    datasets: Mapping[str, Array], attrs: Mapping[str, Attr], *, digest: str | None = None
) -> bytes:
    """Build a flat HDF5 file in memory; the same content gives the same bytes.

    Datasets are chunked along their first axis into about 1 MB with a fletcher32 checksum each,
    uncompressed. The attribute `AnyH5.ATTR_DIGEST` is added.

    Args:
        datasets: Arrays of numbers by name, any shape.
        attrs: Text and numbers by name, any length.
        digest: `content_digest` of both, when the caller has it already.

    Returns:
        The bytes of the file.
    """
    digest = digest or content_digest(datasets, attrs)
    with memory_file(libver=FORMAT) as file:
        for name in sorted(datasets):
            data = np.ascontiguousarray(datasets[name])
            if data.size and data.ndim:
                file.create_dataset(name, data=data, chunks=chunks(data), fletcher32=True)
            else:
                file.create_dataset(name, data=data)
        put_attrs(file, {**attrs, AnyH5.ATTR_DIGEST: digest})
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def put_attrs(file: h5py.File, attrs: Mapping[str, Attr]) -> None:
    """Write attributes of the root."""
    for name, value in attrs.items():
        if isinstance(value, str):
            # Fixed length: variable-length text lies in a heap without checksums.
            text = value.encode() or b"\0"
            file.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", len(text)))
        else:
            file.attrs.create(name, value)


def chunks(data: Array | Blocks) -> tuple[int, ...]:
    """Chunks of about 1 MB, along the first axis, of what is not empty."""
    rows = len(data)
    most = max(1, CHUNK_BYTES // max(1, data.nbytes // rows))
    # Equal chunks, because the last one is stored whole even when it is nearly empty.
    return (math.ceil(rows / math.ceil(rows / most)), *data.shape[1:])


class H5Reader:
    """An open file whose declarations have been checked; made by `open_checked`.

    Attributes:
        name: File name, for messages.
        attrs: Attributes of the root.
        shapes: Declared shape of each dataset.
        dtypes: Declared type of each dataset.
    """

    def __init__(self, file: Any, name: str, budget_bytes: int) -> None:
        self.name = name
        self.attrs: dict[str, Attr] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}
        self._file = file
        self._check_links()
        self._check_attrs()
        total = sum(self._check_dataset(key) for key in self._file)
        if total > budget_bytes:
            raise self.corrupt(
                f"declares {total} bytes of data, more than the {budget_bytes} allowed"
            )

    def corrupt(self, what: str) -> StoreCorruptError:
        """The error to raise when the content turns out to be wrong."""
        return StoreCorruptError(f"{self.name} {what}", _DAMAGED_WAY_OUT)

    def read(
        self,
        name: str,
        dtype: npt.DTypeLike,
        shape: tuple[int | None, ...],
        rows: slice | None = None,
        out: Array | None = None,
    ) -> Array:
        """Read a dataset, or a run of its rows.

        Args:
            name: Name of the dataset.
            dtype: The type that it must have.
            shape: The shape that it must have; None for a length that may be anything.
            rows: The rows to read; None for all.
            out: Where to put them, C-contiguous, of the same type and shape; None makes room.

        Raises:
            StoreCorruptError: It is missing, of another type or shape, or damaged.
        """
        if name not in self.shapes:
            raise self.corrupt(f"has no dataset {name!r}")
        found_dtype, found = self.dtypes[name], self.shapes[name]
        fits = len(found) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, found, strict=True)
        )
        if found_dtype != np.dtype(dtype) or not fits:
            raise self.corrupt(
                f"holds {name!r} as {found_dtype} {found}, expected {np.dtype(dtype)} {shape}"
            )
        with _as_corrupt(self.name):
            if out is None:
                data: Array = self._file[name][() if rows is None else rows]
                return data
            if out.size:
                self._file[name].read_direct(out, None if rows is None else np.s_[rows])
            return out

    def attr(self, name: str, kind: type[Attr]) -> Any:
        """An attribute that must be there and of the given kind.

        Raises:
            StoreCorruptError: It is missing or of another kind.
        """
        value = self.attrs.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.corrupt(f"has no attribute {name!r} that is a {kind.__name__}")
        return value

    def check_digest(self, datasets: Mapping[str, Array | Blocks]) -> None:
        """Compare all the file's datasets, as read, and its attributes with its digest.

        Raises:
            StoreCorruptError: They are not what was written.
        """
        if content_digest(datasets, self.attrs) != self.attrs.get(AnyH5.ATTR_DIGEST):
            raise self.corrupt("does not hold what was written (its digest differs)")

    def _check_links(self) -> None:
        if len(self._file) > _MAX_NAMES:
            raise self.corrupt(f"has {len(self._file)} entries, more than {_MAX_NAMES}")
        for key in self._file:
            link = self._file.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise self.corrupt(f"has {key!r} as a link into another file")
            if not isinstance(link, h5py.HardLink):
                raise self.corrupt(f"has {key!r} as a soft link")
            if self._file.get(key, getclass=True) is not h5py.Dataset:
                raise self.corrupt(f"has {key!r}, which is no dataset")

    def _check_attrs(self) -> None:
        attrs = self._file.attrs
        if len(attrs) > _MAX_NAMES:
            raise self.corrupt(f"has {len(attrs)} attributes, more than {_MAX_NAMES}")
        total = 0
        for name in attrs:
            declared = attrs.get_id(name)
            if declared.dtype.kind not in "Siuf" or declared.shape != ():
                raise self.corrupt(f"has the attribute {name!r}, which is no text or number")
            total += declared.dtype.itemsize
            if total > _MAX_ATTRS_BYTES:
                raise self.corrupt(f"has attributes of more than {_MAX_ATTRS_BYTES} bytes")
            value = attrs[name]
            if isinstance(value, bytes):
                self.attrs[name] = value.decode()
            elif isinstance(value, str):
                self.attrs[name] = value
            else:
                self.attrs[name] = value.item()

    def _check_dataset(self, key: str) -> int:
        """Look at everything that `key` declares, and return its declared size in bytes."""
        dataset = self._file[key]
        if dataset.is_virtual or dataset.external:
            raise self.corrupt(f"keeps the data of {key!r} in another file")
        dtype, shape = dataset.dtype, dataset.shape
        if dtype.kind not in "iufb":
            raise self.corrupt(f"holds {key!r} as {dtype}, which is no plain number")
        if shape is None:
            raise self.corrupt(f"has no data in {key!r}")
        plist = dataset.id.get_create_plist()
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if not filters <= {h5py.h5z.FILTER_FLETCHER32}:
            raise self.corrupt(f"holds {key!r} compressed, which napari-xt never does")
        self.shapes[key], self.dtypes[key] = tuple(shape), dtype
        declared: int = math.prod(shape) * dtype.itemsize
        return declared

    def check_stored(self) -> None:
        """Refuse datasets of which parts were never written; they would read as zeros.

        Raises:
            StoreCorruptError: A dataset is not stored in full.
        """
        for key, shape in self.shapes.items():
            with _as_corrupt(self.name):
                stored = self._file[key].id.get_storage_size()
            if stored < math.prod(shape) * self.dtypes[key].itemsize:
                raise self.corrupt(f"declares more data in {key!r} than it holds")


@contextmanager
def open_checked(path: Path, budget_bytes: int) -> Iterator[H5Reader]:
    """Open an HDF5 file for reading after checking what it declares.

    Refused before any data is read: files that are no HDF5, empty or truncated; soft and
    external links, external and virtual storage; anything but flat datasets of plain numbers;
    compression; datasets that were not written in full; declared sizes over the budget.

    Args:
        path: The file; it is opened without HDF5's lock, as published files never change.
        budget_bytes: The most that all datasets together may declare.

    Raises:
        StoreCorruptError: The file is not what it should be.
        StoreError: It does not exist or may not be read.
    """
    path = Path(path)
    _check_signature(path)
    with _as_corrupt(path.name):
        file = h5py.File(path, "r", locking=False)
    try:
        with _as_corrupt(path.name):
            reader = H5Reader(file, path.name, budget_bytes)
        reader.check_stored()
        yield reader
    finally:
        file.close()


def _check_signature(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path.name} is no file", "Name the file itself")
        with open(path, "rb") as file:
            start = file.read(64)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read ({error.strerror})", "Check the path and its permissions"
        ) from error
    if not start:
        raise StoreCorruptError(f"{path.name} is empty", _DAMAGED_WAY_OUT)
    if not start.startswith(_SIGNATURE):
        page = start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
        what = "is a web page, not HDF5" if page else "is not HDF5"
        raise StoreCorruptError(f"{path.name} {what}", _DAMAGED_WAY_OUT)


@contextmanager
def _as_corrupt(name: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except _H5_FAULTS as error:
        text = " ".join(str(error).split())
        what = "is truncated" if "truncated file" in text else f"is damaged ({text})"
        raise StoreCorruptError(f"{name} {what}", _DAMAGED_WAY_OUT) from error
