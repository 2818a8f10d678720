"""What the engines of a batch leave, in files and in processes."""

from __future__ import annotations

from pathlib import Path

import psutil

__all__ = ["below", "files_of", "gone"]

PATIENCE_S = 120.0
"""Far longer than it takes."""

_OF_THE_CALL = {"run.json", "local.json", "slides.csv"}


def files_of(out: Path) -> dict[str, bytes]:
    """The results in a run directory by name; slides.csv without the columns that hold times."""
    found = {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.is_file() and path.name not in _OF_THE_CALL
    }
    rows = (out / "slides.csv").read_text(encoding="utf-8").splitlines()
    at = rows[0].split(",").index("seconds_read")
    found["slides.csv"] = "\n".join(",".join(row.split(",")[:at]) for row in rows).encode()
    return found


def below(*words: str) -> list[psutil.Process]:
    """Processes that this one has started, directly or not, whose name or command has all words."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            called = f"{process.name()} {' '.join(process.cmdline())}"
        except psutil.Error:
            continue
        if all(word in called for word in words):
            found.append(process)
    return found


def gone(*words: str) -> bool:
    """Whether none is left of `below`; what was told to end may take its time."""
    return not psutil.wait_procs(below(*words), timeout=PATIENCE_S)[1]
