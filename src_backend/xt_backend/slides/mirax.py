"""What a MIRAX slide is made of: a .mrxs file and a folder of the same name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MiraxFolder"]

_SLIDEDAT = "Slidedat.ini"
_MAX_BYTES = 4 << 20
_FILE = re.compile(r"^\s*(INDEXFILE|FILE_\d+)\s*=\s*(.+?)\s*$", re.MULTILINE)
_NAMED = 3


@dataclass(frozen=True)
class MiraxFolder:
    """The folder of a slide, which holds all its pixels.

    Attributes:
        path: Where it lies or should lie.
    """

    path: Path

    @classmethod
    def of(cls, file: Path) -> MiraxFolder:
        """The folder that belongs to a .mrxs file."""
        return cls(file.with_suffix(""))

    def lacks(self) -> str:
        """Which of its files are missing or empty, in words; empty where none is known to be."""
        try:
            present = {file.name for file in self.path.iterdir() if file.stat().st_size}
        except OSError:
            return ""
        if not present:
            return f"{_SLIDEDAT} and all other files"
        if _SLIDEDAT not in present:
            return _SLIDEDAT
        named = self._named()
        missing = [name for name in named if name not in present]
        if not missing:
            return ""
        listed = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        if len(missing) == 1:
            return listed
        return f"{len(missing)} of the {len(named)} files that it should hold ({listed})"

    def _named(self) -> list[str]:
        """The files that its index names, none of them twice."""
        try:
            with (self.path / _SLIDEDAT).open("rb") as file:
                text = file.read(_MAX_BYTES).decode("utf-8-sig", "replace")
        except OSError:
            return []
        names = (found[2].replace("\\", "/").rpartition("/")[2] for found in _FILE.finditer(text))
        return list(dict.fromkeys(names))
