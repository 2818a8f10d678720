"""Reading the header of a model file, without torch and without its tensors."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from xt_backend.errors import InputNotFoundError, ModelError
from xt_backend.model.card import CARD_KEY, ModelCard

__all__ = ["Header", "file_sha256", "read_card", "read_header"]

_MAX_HEADER_BYTES = 100_000_000
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
_PICKLE_SUFFIXES = frozenset({
    ".bin", ".ckpt", ".jit", ".mar", ".package", ".pickle", ".pkl", ".pt", ".pt2", ".pth", ".tar",
    ".torch",
})  # fmt: skip
_GET_AGAIN = "get the file again and compare its sha256"
_CONVERT = (
    "pickled checkpoints can run code when they are opened; make a model of it with "
    "`napari-xt models convert`, or use one made by `napari-xt train`"
)


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself.

    Attributes:
        metadata: The free text entries.
        tensors: Name to (dtype as safetensors writes it, shape).
    """

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, tuple[int, ...]]]


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of a safetensors file.

    Nothing but the header is read, and nothing is ever unpickled.

    Raises:
        InputNotFoundError: No such file.
        ModelError: Not a safetensors file, or a damaged one.
    """
    path = Path(path)
    name = path.name
    if not path.exists():
        raise InputNotFoundError(f"Model file {name} does not exist", "check the path")
    if path.is_dir():
        raise ModelError(f"{name} is a folder, not a model file", "name the .safetensors file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(9)
            length = int.from_bytes(head[:8], "little")
            if size == 0:
                raise ModelError(f"Model file {name} is empty", _GET_AGAIN)
            if size < 9 or head[8:] != b"{" or length > _MAX_HEADER_BYTES:
                raise _not_safetensors(path, head)
            if 8 + length > size:
                raise _truncated(name, size, 8 + length)
            text = head[8:] + file.read(length - 1)
    except PermissionError as error:
        raise ModelError(f"Model file {name} may not be read", "check its permissions") from error
    return _parse(name, text, size - 8 - length)


def read_card(path: str | os.PathLike[str]) -> ModelCard:
    """Read the model card of a file.

    Raises:
        InputNotFoundError: No such file.
        ModelError: The file is no napari-xt model, damaged, or of a newer version.
    """
    header = read_header(path)
    name = Path(path).name
    text = header.metadata.get(CARD_KEY)
    if text is None:
        raise ModelError(
            f"{name} holds tensors but no napari-xt model card",
            "use a model made by `napari-xt train`, or make one of a checkpoint of the xT "
            "reference with `napari-xt models convert`",
        )
    return ModelCard.from_json(text, where=name)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(name: str, text: bytes, data_bytes: int) -> Header:
    damaged = ModelError(f"Model file {name} has a damaged header", _GET_AGAIN)
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged from error
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise damaged
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    end = 0
    for key, entry in raw.items():
        try:
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            start, stop = entry["data_offsets"]
            item_bytes = _BYTES[dtype]
        except (KeyError, TypeError, ValueError) as error:
            raise damaged from error
        if any(type(number) is not int or number < 0 for number in (start, stop, *shape)):
            raise damaged
        if stop - start != math.prod(shape) * item_bytes:
            raise damaged
        end = max(end, stop)
        tensors[key] = (dtype, shape)
    if end > data_bytes:
        raise _truncated(name, data_bytes, end)
    if end < data_bytes:
        raise ModelError(f"Model file {name} holds bytes that belong to no tensor", _GET_AGAIN)
    return Header(metadata, tensors)


def _truncated(name: str, has: int, wants: int) -> ModelError:
    return ModelError(f"Model file {name} is truncated: {has} of {wants} bytes", _GET_AGAIN)


def _not_safetensors(path: Path, head: bytes) -> ModelError:
    pickled = head.startswith((b"PK\x03\x04", b"\x80")) or path.suffix.lower() in _PICKLE_SUFFIXES
    if pickled:
        return ModelError(f"{path.name} is a pickled checkpoint and was not opened", _CONVERT)
    return ModelError(
        f"{path.name} is not a safetensors file",
        "models are .safetensors files made by `napari-xt train`",
    )
