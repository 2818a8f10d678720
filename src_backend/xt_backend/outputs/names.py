"""Names of slides in outputs: safe on every file system, unique, and telling nothing they must not.

The plain stem where that is safe and free; otherwise the stem made safe, with a short hash of the
file name, or with a number where two inputs have the very same file name. An input's id depends
only on the inputs before it, so adding inputs at the end changes none.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from xt_backend.keys import RunFile

__all__ = ["pseudonym_ids", "safe_ids", "without_folders"]

# With the longest suffix of an output this stays far below the 255 bytes of a file name.
_MAX_BYTES = 120
_FORBIDDEN = frozenset('<>:"/\\|?*`')
# Control, format, surrogate, private and unassigned characters; line and paragraph separators.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# A shell takes the first two for options and home folders, a spreadsheet the others for formulas.
_NOT_FIRST = "-~=+@."
_TAKEN = tuple(
    suffix.removesuffix(RunFile.GEOJSON) for suffix in (RunFile.POINTS_GEOJSON, RunFile.OUTLINES)
)
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{i}" for port in ("COM", "LPT") for i in "0123456789¹²³"]
)


def safe_ids(names: Sequence[str]) -> list[str]:
    """One id per input, none empty, none equal to another in any case or Unicode form.

    Args:
        names: File names of the inputs, in their order; folders before them are ignored.

    Returns:
        Ids of at most 140 bytes that can be file names everywhere. The ids of the first k names
        are the same whatever follows.
    """
    return _unique([_safe_stem(_file_name(name)) for name in names], names, may_hash=True)


def pseudonym_ids(names: Sequence[str], key: bytes) -> list[str]:
    """Ids that tell the file name only to who holds the key.

    Args:
        names: File names of the inputs, in their order; folders before them are ignored.
        key: The secret; the same key gives the same ids.

    Returns:
        16 hex digits each, with a number where a name occurs again.
    """
    keyed = [hmac.new(key, _bytes(_file_name(name)), hashlib.sha256) for name in names]
    return _unique([code.hexdigest()[:16] for code in keyed], names, may_hash=False)


def without_folders(text: str, paths: Sequence[Path]) -> str:
    """Cut the folders of known paths out of a message, so that it may go into an output.

    Args:
        text: A message, such as an error's.
        paths: Files and folders of this run; of each only the last name is left.
    """
    folders: set[Path] = set()
    for path in paths:
        if len(path.parts) > 1:
            text = text.replace(str(path), path.name)
        folders.update(path.absolute().parents, path.resolve().parents)
    # The longest first, or what is left of it would not be recognised.
    for folder in sorted(folders, key=lambda f: len(str(f)), reverse=True):
        if not folder.name:
            continue
        for separator in ("/", "\\"):
            text = text.replace(f"{folder}{separator}", "")
        if len(folder.parts) > 2:
            text = text.replace(str(folder), "<folder>")
    return text


def _unique(wanted: Sequence[str], names: Sequence[str], *, may_hash: bool) -> list[str]:
    taken: set[str] = set()
    seen: set[str] = set()
    ids = []
    for stem, name in zip(wanted, map(_file_name, names), strict=True):
        chosen, number = stem, 2
        if may_hash and _folded(chosen) in taken and name not in seen:
            chosen = f"{stem}-{_hash(name)}"
        while _folded(chosen) in taken:
            chosen = f"{stem}-{number}"
            number += 1
        taken.add(_folded(chosen))
        seen.add(name)
        ids.append(chosen)
    return ids


def _file_name(name: str) -> str:
    return PurePosixPath(name).name


def _safe_stem(name: str) -> str:
    stem = unicodedata.normalize("NFC", PurePosixPath(name).stem)
    safe = "".join(
        "_" if c in _FORBIDDEN or unicodedata.category(c) in _INVISIBLE else c for c in stem
    ).strip()
    if safe[:1] and safe[0] in _NOT_FIRST:
        safe = "_" + safe.lstrip(_NOT_FIRST)
    safe = safe.rstrip(". ")
    if safe.split(".")[0].rstrip().upper() in _DEVICES:
        safe = f"_{safe}"
    safe = _bytes(safe)[:_MAX_BYTES].decode("utf-8", "ignore").rstrip(". ")
    # "a.points.svs" would write its regions where "a.svs" has its points.
    if safe and safe == stem and not safe.casefold().endswith(_TAKEN):
        return safe
    return f"{safe or 'slide'}-{_hash(name)}"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _hash(name: str) -> str:
    return hashlib.sha256(_bytes(name)).hexdigest()[:8]


def _bytes(text: str) -> bytes:
    # Names that are no valid UTF-8 reach Python as lone surrogates.
    return text.encode("utf-8", "surrogatepass")
