"""Where the time of a run goes, and how much memory it took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["BESIDE", "PARTS", "STAGES", "Stages", "peak_memory_bytes"]

PARTS = ("load", "probe", "open", "wait", "stain", "encode", "reload", "context", "write")
"""What the time of a run is divided into; the rest is `other`.

``load``: the model, and the encoder in its backend. ``probe``: trying ways to encode. ``open``:
slides and their stores, tissue, and what was found earlier. ``wait``: the encoder waited for
pixels. ``stain``: normalising it. ``reload``: stored features. ``context``: context encoder and
heads. ``write``: files, and waiting for those of the region store.
"""

BESIDE = ("read", "decode", "resample", "store")
"""What goes on in other threads meanwhile, summed over them.

``read`` is all that it takes to get at pixels; ``decode`` and ``resample`` are parts of it.
``store``: storing features.
"""

STAGES = (*PARTS, *BESIDE)


class Stages:
    """Seconds by stage since it was made; takes them from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._inner = threading.local()
        self._began = time.perf_counter()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Take seconds, by stage."""
        with self._lock:
            for name, value in seconds.items():
                self._seconds[name] += value

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count what is done within; what is counted inside of that counts once, there."""
        outside = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds = 0.0
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            self.add({stage: taken - self._inner.seconds})
            self._inner.seconds = outside + taken

    def to_dict(self) -> dict[str, float]:
        """Seconds by stage."""
        with self._lock:
            return dict(self._seconds)

    def all_told(self) -> dict[str, float]:
        """Seconds by stage, in total, and of `other`, which with `PARTS` adds up to the total."""
        total, seconds = time.perf_counter() - self._began, self.to_dict()
        other = total - sum(seconds[name] for name in PARTS)
        return {**seconds, "other": max(0.0, other), "total": total}


def peak_memory_bytes() -> int | None:
    """The most memory that this process has had so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
