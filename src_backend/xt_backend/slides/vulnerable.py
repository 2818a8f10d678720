"""Versions of OpenSlide with holes that a crafted slide can use."""

from __future__ import annotations

import functools
import logging

import openslide

__all__ = ["openslide_problem", "warn_once"]

_log = logging.getLogger(__name__)

_FIRST_SOUND = (4, 0, 1)


def openslide_problem() -> str:
    """What is wrong with the OpenSlide that is loaded, and the way out; empty where nothing is."""
    found = openslide.__library_version__
    digits = [part for part in found.split("-")[0].split(".")[:3] if part.isdecimal()]
    if tuple(int(part) for part in digits) >= _FIRST_SOUND:
        return ""
    return (
        f"{found}: older than 4.0.1, which fixes CVE-2026-48977 (crafted slides can write to "
        "memory) and CVE-2026-54604. Install openslide-bin>=4.0.1"
    )


@functools.cache
def warn_once() -> None:
    """Log the problem the first time; above what the command line keeps to itself."""
    if problem := openslide_problem():
        _log.error("OpenSlide %s", problem)
