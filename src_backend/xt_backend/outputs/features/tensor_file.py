"""A plain tensor as torch keeps it, without any pickled object, written block by block."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from xt_backend.outputs.features.layout import Writer
from xt_backend.store import Blocks, blocks_of

__all__ = ["tensor_file"]

_ALIGNED = 64
"""Where torch lets values begin, so that a file can be mapped into memory."""
_NEVER = (1980, 1, 1, 0, 0, 0)


def tensor_file(values: npt.NDArray[np.float32] | Blocks) -> Writer:
    """Write what ``torch.save`` does of float32; ``torch.load(..., weights_only=True)`` reads it.

    Args:
        values: The tensor's values, of any shape.
    """

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in (
                ("data.pkl", _described(values.shape)),
                ("byteorder", b"little"),
                ("data/0", values),
                ("version", b"3\n"),
            ):
                _put(archive, file.tell(), name, content)

    return write


class _Values:
    """Stands for the values, which lie in a file of their own in the archive."""


class _Tensor:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __reduce__(self) -> tuple[Any, ...]:
        import torch._utils

        stride = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        return (
            torch._utils._rebuild_tensor_v2,
            (_Values(), 0, self.shape, stride, False, OrderedDict()),
        )


class _Pickler(pickle.Pickler):
    def __init__(self, file: IO[bytes], numel: int) -> None:
        super().__init__(file, protocol=2)
        self._numel = numel

    def persistent_id(self, obj: object) -> Any:
        import torch

        if isinstance(obj, _Values):
            return ("storage", torch.FloatStorage, "0", "cpu", self._numel)
        return None


def _described(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, math.prod(shape)).dump(_Tensor(shape))
    return file.getvalue()


def _put(
    archive: zipfile.ZipFile,
    place: int,
    name: str,
    content: bytes | npt.NDArray[np.float32] | Blocks,
) -> None:
    info = zipfile.ZipInfo(f"archive/{name}", _NEVER)
    # Decides between the two forms of the header, of which the longer has 20 bytes more.
    info.file_size = len(content) if isinstance(content, bytes) else content.nbytes
    large = info.file_size * 1.05 > zipfile.ZIP64_LIMIT
    head = place + 30 + len(info.filename) + 20 * large + 4
    gap = -head % _ALIGNED
    info.extra = b"FB" + gap.to_bytes(2, "little") + b"Z" * gap
    with archive.open(info, "w", force_zip64=large) as entry:
        if isinstance(content, bytes):
            entry.write(content)
            return
        for block in blocks_of(content):
            entry.write(np.ascontiguousarray(block, "<f4").data)
