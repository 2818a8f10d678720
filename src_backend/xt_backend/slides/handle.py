"""One OpenSlide handle for many threads, replaced when an error has spoilt it."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import openslide
from PIL import Image

from xt_backend.errors import RegionReadError, UsageError
from xt_backend.slides.vulnerable import warn_once

__all__ = ["Handle", "scrub"]

CACHE_BYTES = 64 * 2**20
"""Decoded tiles that OpenSlide keeps; shared by a handle and its replacements."""


def _properties(slide: openslide.OpenSlide) -> dict[str, str]:
    """All whose names are text; what was written in another encoding cannot be asked for."""
    found = {}
    for name in slide.properties:
        with suppress(KeyError):
            found[name] = slide.properties[name]
    return found


class Handle:
    """Reads raw RGBA pixels from any thread.

    After its first error an OpenSlide handle answers every call with that error, for all
    threads. A failed read is therefore repeated on a fresh handle of its own, which only an error
    of this very place can spoil; if that one works, it replaces the shared one.

    Args:
        path: A file that OpenSlide opens.

    Raises:
        openslide.OpenSlideError: OpenSlide does not open the file.
    """

    def __init__(self, path: Path) -> None:
        warn_once()
        self._path = path
        self._lock = threading.Lock()
        self._cache = openslide.OpenSlideCache(CACHE_BYTES)
        self._closed = False
        slide = self._open()
        self._shared: openslide.OpenSlide | None = slide
        self.properties = MappingProxyType(_properties(slide))
        self.level_dimensions: tuple[tuple[int, int], ...] = slide.level_dimensions
        self.level_downsamples: tuple[float, ...] = slide.level_downsamples

    def read(
        self, level: int, location_px: tuple[int, int], size_px: tuple[int, int]
    ) -> Image.Image:
        """RGBA pixels of one place, not premultiplied.

        Args:
            level: Pyramid level.
            location_px: (x, y) of the corner, level-0 px, not negative.
            size_px: (width, height), px of `level`.

        Raises:
            RegionReadError: The place cannot be decoded, on a fresh handle neither.
            UsageError: The slide has been closed.
        """
        slide = None
        try:
            slide = self._acquire()
            return slide.read_region(location_px, level, size_px)
        except openslide.OpenSlideError:
            pass
        try:
            fresh = self._open()
            image = fresh.read_region(location_px, level, size_px)
        except openslide.OpenSlideError as error:
            self._replace(slide, None)
            raise RegionReadError(
                f"level {level} at ({location_px[0]}, {location_px[1]}) px cannot be read: "
                f"{scrub(str(error), self._path)}",
                "Check that the slide file is whole, or leave this place out",
            ) from None
        self._replace(slide, fresh)
        return image

    def close(self) -> None:
        """Lets go of the file; reads under way finish first."""
        with self._lock:
            self._closed = True
            self._shared = None

    def _open(self) -> openslide.OpenSlide:
        slide = openslide.OpenSlide(self._path)
        slide.set_cache(self._cache)
        return slide

    def _acquire(self) -> openslide.OpenSlide:
        with self._lock:
            if self._closed:
                raise UsageError("the slide has been closed", "Open it again")
            if self._shared is None:
                self._shared = self._open()
            return self._shared

    def _replace(
        self, spoilt: openslide.OpenSlide | None, fresh: openslide.OpenSlide | None
    ) -> None:
        # Never closed by hand: other threads may be inside a call on it. The last reference
        # frees it.
        with self._lock:
            if self._shared is spoilt and not self._closed:
                self._shared = fresh


def scrub(message: str, path: Path) -> str:
    """A message of OpenSlide without folders, the file's name or its companions' folder.

    Args:
        message: What OpenSlide said.
        path: The file it was said about.
    """
    for parent in {path.parent, path.parent.absolute(), path.parent.resolve()}:
        message = message.replace(f"{parent}/", "").replace(f"{parent}\\", "")
    for name in (f"{path.stem}/", f"{path.stem}\\", f"{path.name}: ", path.name):
        message = message.replace(name, "")
    return " ".join(message.split()).rstrip(".")
