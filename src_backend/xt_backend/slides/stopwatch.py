"""Seconds that several threads spend on the same thing."""

from __future__ import annotations

import threading
import time
from types import TracebackType

__all__ = ["Stopwatch"]


class Stopwatch:
    """Counts what is done in its ``with`` blocks, one of them a thread at a time.

    Attributes:
        seconds: So far, summed over the threads.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._own = threading.local()

    def __enter__(self) -> Stopwatch:
        self._own.began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        taken = time.perf_counter() - self._own.began
        with self._lock:
            self.seconds += taken
