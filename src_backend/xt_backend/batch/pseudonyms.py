"""Runs whose outputs tell no file name: ``--pseudonymise``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xt_backend.errors import InputNotFoundError, UsageError
from xt_backend.outputs import pseudonym_ids
from xt_backend.wording import counted

from .inputs import InputRow, Inputs

__all__ = ["hidden", "pseudonymous", "read_key"]

_FEWEST_BYTES = 16
_MOST_BYTES = 1 << 16
_SHORTEST = 3
"""Names of fewer characters are left in messages: they tell nothing, and stand in many words."""


def read_key(path: Path) -> bytes:
    """The secret that pseudonyms are made with.

    Raises:
        InputNotFoundError: There is no such file.
        UsageError: It cannot be read, or is no key.
    """
    make = "Make one with: openssl rand -out pseudonyms.key 32"
    if not path.is_file():
        raise InputNotFoundError(f"There is no key file {path.name}", make)
    try:
        with path.open("rb") as file:
            key = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"The key file {path.name} cannot be read: {error.strerror}", "Check --pseudonymise"
        ) from error
    if not _FEWEST_BYTES <= len(key) <= _MOST_BYTES:
        raise UsageError(
            f"The key file {path.name} is no key: it should have {_FEWEST_BYTES} to "
            f"{_MOST_BYTES:,} bytes",
            make,
        )
    return key


def pseudonymous(inputs: Inputs, key: bytes) -> Inputs:
    """The same inputs under names that tell the file names only to who holds the key.

    Args:
        inputs: As they were read.
        key: Of `read_key`.
    """
    names = pseudonym_ids([row.name for row in inputs.rows], key)
    rows = tuple(
        replace(row, shown=name, problem=hidden(row.problem, replace(row, shown=name)))
        for row, name in zip(inputs.rows, names, strict=True)
    )
    n = len(inputs.passed_over)
    told = ((Path(counted(n, "file")), "no slides, whose names are not told"),) if n else ()
    return Inputs(rows, told)


def hidden(value: Any, row: InputRow) -> Any:
    """Plain data without the names of a slide's files, if the slide has a pseudonym.

    Args:
        value: A message, or lists and mappings of messages.
        row: Of the slide.
    """
    if not row.shown:
        return value
    if isinstance(value, str):
        return _without(value, row)
    if isinstance(value, Mapping):
        return {name: hidden(item, row) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(hidden(item, row) for item in value)
    return value


def _without(text: str, row: InputRow) -> str:
    paths = [row.path] if row.roi is None else [row.path, row.roi]
    names = {part for path in paths for part in (path.name, path.stem)}
    # The longest first, or the ending of a name would stay.
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= _SHORTEST:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: row.shown, text)
    return text
