"""The slides that were opened last, remembered for this user alone."""

from __future__ import annotations

from pathlib import Path

from napari_xt.kept import keep, read_kept

__all__ = ["forget_recent", "recent_slides", "remember_slide"]

_FILE = "recent.json"
_MOST = 10


def recent_slides() -> list[Path]:
    """Files and folders, the last one first; those that are gone are left out."""
    return [path for path in _listed() if path.exists()]


def remember_slide(path: Path) -> None:
    """Put a slide first."""
    path = path.absolute()
    _keep([path, *(other for other in _listed() if other != path)][:_MOST])


def forget_recent() -> None:
    """Remember none."""
    _keep([])


def _listed() -> list[Path]:
    names = read_kept(_FILE)
    if not isinstance(names, list):
        return []
    return [Path(name) for name in names if isinstance(name, str)]


def _keep(paths: list[Path]) -> None:
    keep(_FILE, [str(path) for path in paths])
