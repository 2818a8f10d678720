"""The models that can be named without a path: bundled with the package, or the user's own."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from xt_backend.errors import InputNotFoundError, ModelError
from xt_backend.keys import PRODUCT
from xt_backend.model.card import ModelCard
from xt_backend.model.header import read_card

__all__ = ["SUFFIX", "ModelEntry", "find_model", "list_models", "models_folder"]

SUFFIX = ".safetensors"
_FILES = {SUFFIX, ".pt", ".pth", ".ckpt", ".bin"}
"""Endings that no name of a model has: whoever writes them means a file."""
_BUNDLED = Path(__file__).with_name("bundled")


@dataclass(frozen=True)
class ModelEntry:
    """One model that `find_model` finds by name.

    Attributes:
        name: The file's stem.
        source: ``bundled`` with the package or ``local`` in the user's folder.
        card: None where the file cannot be used.
        problem: Why it cannot be used, or empty.
    """

    name: str
    path: Path
    source: Literal["bundled", "local"]
    card: ModelCard | None
    problem: str = ""


def models_folder() -> Path:
    """The user's own folder of models; it need not exist."""
    return platformdirs.user_data_path(PRODUCT, appauthor=False) / "models"


def list_models() -> tuple[ModelEntry, ...]:
    """All models that can be named, bundled first, each group by name.

    A damaged file is listed with its problem instead of ending the list.
    """
    entries: list[ModelEntry] = []
    for name, (path, source) in _paths().items():
        try:
            entries.append(ModelEntry(name, path, source, read_card(path)))
        except (ModelError, InputNotFoundError) as error:
            entries.append(ModelEntry(name, path, source, None, str(error)))
    return tuple(entries)


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a model.

    Args:
        name_or_path: A path, or the name of a bundled or local model, which may hold dots. An
            existing file wins over a model of the same name.

    Raises:
        InputNotFoundError: It looks like a path, and there is no such file.
        ModelError: There is no model of that name.
    """
    text = os.fspath(name_or_path)
    path = Path(text)
    is_path = not isinstance(name_or_path, str) or _looks_like_path(text)
    if path.exists() and (path.is_file() or is_path):
        return path
    paths = _paths()
    if isinstance(name_or_path, str) and text in paths:
        return paths[text][0]
    if is_path:
        raise InputNotFoundError(f"Model file {path.name} does not exist", "check the path")
    near = difflib.get_close_matches(text, paths, n=3)
    known = ", ".join(near or sorted(paths)) or "none"
    raise ModelError(
        f"There is no model named {text!r}",
        f"{'did you mean' if near else 'known models'}: {known}; or give the path of a {SUFFIX} "
        "file",
    )


def _looks_like_path(text: str) -> bool:
    separators = {"/", os.sep, os.altsep or os.sep}
    return any(mark in text for mark in separators) or Path(text).suffix.lower() in _FILES


def _paths() -> dict[str, tuple[Path, Literal["bundled", "local"]]]:
    found: dict[str, tuple[Path, Literal["bundled", "local"]]] = {}
    for path in sorted(_BUNDLED.glob(f"*{SUFFIX}")):
        found[path.stem] = (path, "bundled")
    for path in sorted(models_folder().glob(f"*{SUFFIX}")):
        # A bundled name always means the bundled file, so that runs can be repeated elsewhere.
        found.setdefault(path.stem, (path, "local"))
    return found
