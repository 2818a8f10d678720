"""Where the time of a run goes, and how much memory it took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["STAGES", "Stages", "peak_memory_bytes"]

STAGES = ("read", "decode", "resample", "wait", "encode", "context", "write")
"""What the time of a run is divided into.

``read``, summed over the reader threads, is all that it takes to get at pixels; ``decode`` and
``resample`` are parts of it. ``wait`` is what the encoder spent waiting for pixels, ``write`` what
was spent storing features (beside all else) and writing files.
"""


class Stages:
    """Seconds by stage; takes them from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Take seconds, by stage."""
        with self._lock:
            for name, value in seconds.items():
                self._seconds[name] += value

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count what is done within."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - started})

    def to_dict(self) -> dict[str, float]:
        """Seconds by stage."""
        with self._lock:
            return dict(self._seconds)


def peak_memory_bytes() -> int | None:
    """The most memory that this process has had so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
