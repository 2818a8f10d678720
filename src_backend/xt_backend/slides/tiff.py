"""Whether a TIFF file is whole, without decoding anything."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["TiffSummary", "is_tiff", "summarise_tiff"]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNSIGNED = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_READ = (_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS, _TILE_WIDTH, _TILE_LENGTH)
_MAX_DIRECTORIES = 4096
# OpenSlide takes memory for what a tile declares, and ends the process where there is none.
_HARMLESS_BYTES = 64 << 20
_HARMLESS_TILE_PX = 1 << 28

Offsets = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TiffSummary:
    """What the directories of a TIFF say.

    Attributes:
        n_pages: Directories that could be read.
        tiled: Whether any of them is tiled.
        n_segments: Tiles and strips that hold data.
        n_missing: Those of them that start beyond the end of the file.
        n_cut: Those of them that start within the file and end beyond it.
        cut_off: Whether a directory lies beyond the end of the file.
        absurd: What a tile declares that no slide has, so that reading it takes gigabytes; else
            empty.
    """

    n_pages: int
    tiled: bool
    n_segments: int
    n_missing: int
    n_cut: int
    cut_off: bool
    absurd: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether everything that the directories name lies within the file."""
        damaged = self.n_missing or self.n_cut or self.cut_off or self.absurd
        return self.n_pages > 0 and not damaged

    @property
    def truncation(self) -> str:
        """What shows that the file is incomplete or damaged, or an empty text."""
        if self.n_missing:
            return (
                f"the file is cut off: {self.n_missing} of {self.n_segments} image tiles lie "
                "beyond its end"
            )
        if self.cut_off:
            return "the file is cut off: its directory lies beyond its end"
        return f"the file is damaged: {self.absurd}" if self.absurd else ""


class _CutOff(Exception):
    """The file ends too early."""


def is_tiff(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a TIFF or BigTIFF."""
    return head[:4] in _MAGIC


def summarise_tiff(path: Path) -> TiffSummary:
    """Follows the directories of a TIFF or BigTIFF file.

    Args:
        path: A file that starts as a TIFF does.

    Raises:
        OSError: The file cannot be read.
    """
    pages, tiled, segments, missing, cut, cut_off = 0, False, 0, 0, 0, False
    absurd = ""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            walker = _Walker(file, size)
            seen: set[int] = set()
            offset = walker.first
            while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
                seen.add(offset)
                fields, offset = walker.directory(offset)
                pages += 1
                tiled |= _TILE_OFFSETS in fields
                absurd = absurd or _absurd_tile(fields)
                for places, lengths in (
                    (_TILE_OFFSETS, _TILE_COUNTS),
                    (_STRIP_OFFSETS, _STRIP_COUNTS),
                ):
                    starts, counts = fields.get(places), fields.get(lengths)
                    if starts is None or counts is None or len(starts) != len(counts):
                        continue
                    used = counts > 0
                    segments += int(used.sum())
                    beyond = starts >= size
                    missing += int((used & beyond).sum())
                    # Compared like this, for their sum may be too large for its type.
                    over = used & ~beyond & (counts > size - np.minimum(starts, size))
                    cut += int(over.sum())
                    longest = int(counts[over].max(initial=0))
                    if longest > _HARMLESS_BYTES:
                        absurd = absurd or f"a part of {longest} bytes in a file of {size}"
        except _CutOff:
            cut_off = True
    return TiffSummary(pages, tiled, segments, missing, cut, cut_off, absurd)


def _absurd_tile(fields: dict[int, Offsets]) -> str:
    sides = [int(fields[tag][0]) for tag in (_TILE_WIDTH, _TILE_LENGTH) if len(fields.get(tag, ()))]
    if len(sides) == 2 and sides[0] * sides[1] > _HARMLESS_TILE_PX:
        return f"tiles of {sides[0]} x {sides[1]} px"
    return ""


class _Walker:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        head = self._read(0, 8)
        self._order = "<" if head[:2] == b"II" else ">"
        self._big = head[2:4] in (b"+\0", b"\0+")
        if self._big:
            (self.first,) = struct.unpack(self._order + "Q", self._read(8, 8))
        else:
            (self.first,) = struct.unpack(self._order + "I", head[4:])

    def _read(self, offset: int, count: int) -> bytes:
        if offset + count > self._size:
            raise _CutOff
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) < count:
            raise _CutOff
        return data

    def directory(self, offset: int) -> tuple[dict[int, Offsets], int]:
        """What one directory says of its tiles and strips, and where the next one is (0: none)."""
        count_form, entry_size, next_form = ("Q", 20, "Q") if self._big else ("H", 12, "I")
        head = struct.calcsize("=" + count_form)
        (count,) = struct.unpack(self._order + count_form, self._read(offset, head))
        entries = self._read(offset + head, count * entry_size)
        fields = {}
        for start in range(0, len(entries), entry_size):
            entry = entries[start : start + entry_size]
            (tag,) = struct.unpack_from(self._order + "H", entry)
            if tag in _READ:
                values = self._values(entry)
                if values is not None:
                    fields[tag] = values
        end = offset + head + len(entries)
        following = self._read(end, struct.calcsize("=" + next_form))
        return fields, int(struct.unpack(self._order + next_form, following)[0])

    def _values(self, entry: bytes) -> Offsets | None:
        form, room = ("HHQ", 8) if self._big else ("HHI", 4)
        _, kind, count = struct.unpack_from(self._order + form, entry)
        if kind not in _UNSIGNED:
            return None
        length = count * int(_UNSIGNED[kind][1:])
        data = entry[-room:]
        if length > room:
            (place,) = struct.unpack(self._order + ("Q" if self._big else "I"), data)
            data = self._read(place, length)
        values: Offsets = np.frombuffer(
            data[:length], dtype=np.dtype(self._order + _UNSIGNED[kind])
        ).astype(np.uint64)
        return values
