"""Ctrl-C and SIGTERM as a question that work asks between batches."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop", "listening"]

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """Whether and how the user or the system asked to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return _CODES.get(signal.Signals(self.signal or signal.SIGINT), 130)


@contextmanager
def listening() -> Iterator[Stop]:
    """Turn the first signal into a polite stop; a second one ends at once."""
    stop = Stop()
    before = {}

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = number

    for number in _CODES:
        before[number] = signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
