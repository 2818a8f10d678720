"""Seconds that several threads spend on the same thing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Counts what any number of threads do while it is `running` for them.

    Attributes:
        seconds: So far, summed over the threads.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the end of a ``with`` block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(time.perf_counter() - began)

    def add(self, seconds: float) -> None:
        """Count what was measured elsewhere, s."""
        with self._lock:
            self.seconds += seconds
