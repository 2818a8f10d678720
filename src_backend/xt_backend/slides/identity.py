"""A name for a slide's content that survives copying and renaming."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from xt_backend.errors import SlideError

__all__ = ["FileStamp", "identity_of", "stamp_files"]

FileStamp = tuple[tuple[str, int, int], ...]
"""Per file: its path, size in bytes and modification time in ns."""

_SALT = b"napari-xt slide identity 1"
_BLOCK = 64 * 1024
_BLOCKS_PER_SLIDE = 128
_MIN_BLOCKS_PER_FILE = 8


def identity_of(files: Sequence[Path], quickhash: str | None) -> str:
    """A sha256 over OpenSlide's quickhash, the sizes and content sampled from every file.

    Small files are read whole; of large ones the head, the tail and evenly spaced blocks. Names,
    places and times of the files do not matter, nor does their order.

    Args:
        files: All files of the slide.
        quickhash: OpenSlide's ``openslide.quickhash-1``, or None.

    Returns:
        64 hexadecimal digits.

    Raises:
        SlideError: A file cannot be read any more.
    """
    n_blocks = max(_MIN_BLOCKS_PER_FILE, _BLOCKS_PER_SLIDE // max(len(files), 1))
    try:
        parts = sorted(_sample(file, n_blocks) for file in files)
    except OSError as error:
        raise SlideError(
            f"a file of the slide cannot be read: {error.strerror or 'unknown reason'}",
            "Check that the slide is still there and may be read",
        ) from None
    digest = hashlib.sha256(_SALT)
    digest.update((quickhash or "none").encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _sample(path: Path, n_blocks: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        if size <= n_blocks * _BLOCK:
            starts, length = [0], size
        else:
            last = size - _BLOCK
            starts, length = [last * i // (n_blocks - 1) for i in range(n_blocks)], _BLOCK
        for start in starts:
            file.seek(start)
            digest.update(file.read(length))
    return digest.digest()


def stamp_files(files: Sequence[Path]) -> FileStamp:
    """Size and modification time of each file, to notice that one was replaced or cut.

    A file that cannot be looked at gets size -1.

    Args:
        files: All files of the slide.
    """
    stamps = []
    for file in files:
        try:
            stat = file.stat()
            stamps.append((str(file), stat.st_size, stat.st_mtime_ns))
        except OSError:
            stamps.append((str(file), -1, -1))
    return tuple(stamps)
