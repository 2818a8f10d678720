"""Plain JSON values: what may go into files, one canonical text for it, and what differs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from xt_backend.errors import UsageError
from xt_backend.keys import PRODUCT

__all__ = ["Difference", "canonical_json", "differences", "plain_json", "writer_version"]

_MISSING = object()


def writer_version() -> str:
    """The version of napari-xt that is writing, ``unknown`` in an uninstalled checkout."""
    try:
        return version(PRODUCT)
    except PackageNotFoundError:
        return "unknown"


def plain_json(value: Any, *, keep_folders: bool = False, key: str = "value") -> Any:
    """Reduce a value to what strict JSON can hold, without folders.

    NumPy scalars and arrays become numbers and lists, enum members their values, numbers that
    are not finite None. Absolute paths, as text, as keys or as path objects, are cut to their
    last name, because no output may tell where a file lay.

    Args:
        value: Mappings with text keys, sequences, arrays, text, numbers, booleans and None.
        keep_folders: Leave paths whole; only for what never leaves this machine.
        key: Name of the value, for the error.

    Raises:
        UsageError: The value holds something else, or a key that is no text.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | PurePath):
        return str(value) if keep_folders else _without_folder(str(value))
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist(), keep_folders=keep_folders, key=key)
    if isinstance(value, Mapping):
        plain = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise UsageError(
                    f"{key} has the key {name!r}, which is no text", "Use text as keys"
                )
            plain[plain_json(name, keep_folders=keep_folders)] = plain_json(
                item, keep_folders=keep_folders, key=f"{key}.{name}"
            )
        return plain
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [
            plain_json(item, keep_folders=keep_folders, key=f"{key}[{i}]")
            for i, item in enumerate(value)
        ]
    raise UsageError(
        f"{key} is a {type(value).__name__}, which JSON cannot hold",
        "Pass plain numbers, text, lists and mappings",
    )


def _without_folder(text: str) -> str:
    if text.startswith("file:"):
        return text.rstrip("/").rpartition("/")[2]
    posix, windows = PurePosixPath(text), PureWindowsPath(text)
    if posix.is_absolute() or text.startswith("~/"):
        return posix.name
    if windows.is_absolute() or text.startswith("\\\\"):
        return windows.name
    return text


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, equal numbers written alike (1.0 as 1)."""
    return json.dumps(_whole_numbers(plain_json(value)), sort_keys=True, separators=(",", ":"))


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class Difference(NamedTuple):
    """One key in which two mappings differ.

    Attributes:
        key: Dotted name, such as ``numerics.precision``.
        here: The value of the first mapping, None where it has none.
        there: The value of the second mapping, None where it has none.
    """

    key: str
    here: Any
    there: Any

    def __str__(self) -> str:
        return f"{self.key} is {self.there!r} there and {self.here!r} here"


def differences(here: Any, there: Any, key: str = "") -> list[Difference]:
    """Every key in which two JSON values differ, in the order of the first, then the second.

    Lists are compared as one value. Whole numbers equal floats of the same value.
    """
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        found: list[Difference] = []
        for name in [*here, *(name for name in there if name not in here)]:
            found += differences(
                here.get(name, _MISSING), there.get(name, _MISSING), f"{key}.{name}".lstrip(".")
            )
        return found
    # bool equals int in Python, but not in a configuration.
    if here == there and isinstance(here, bool) == isinstance(there, bool):
        return []
    return [
        Difference(
            key,
            None if here is _MISSING else here,
            None if there is _MISSING else there,
        )
    ]
