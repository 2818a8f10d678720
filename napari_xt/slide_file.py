"""What a shown slide holds and has to give back: the open file and the threads that read it."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING

from napari_xt.pool import DaemonPool

if TYPE_CHECKING:
    from xt_backend.slides import Slide

__all__ = ["SlideFile"]


class SlideFile:
    """File handle and threads of one slide, opened when asked for and released together.

    Apart from the pyramid, so that the pyramid's finalizer can hold it.

    Args:
        path: Slide file or DICOM folder.
        threads: Threads that read side by side, of each of the two kinds.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._threads = threads
        self._slide: Slide | None = None
        self._pools: dict[bool, DaemonPool] = {}
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether a file handle is held now."""
        return self._slide is not None

    @property
    def stopped(self) -> threading.Event:
        """Set by the next `release`; work begun before it carries it along."""
        return self._stopped

    def open(self, stopped: threading.Event | None = None) -> Slide:
        """The slide, opened if it is not.

        Args:
            stopped: As it was when the work began, which must not open the file again.

        Raises:
            CancelledError: `stopped` is set.
            SlideError: The slide can't be opened.
        """
        from xt_backend.slides import open_slide

        with self._lock:
            if stopped is not None and stopped.is_set():
                raise CancelledError
            if self._slide is None:
                self._slide = open_slide(self._path)
            return self._slide

    def pool(self, stopped: threading.Event, *, slow: bool) -> DaemonPool:
        """Threads, started if there are none.

        Args:
            stopped: As it was when the work began, which must start no threads again.
            slow: For halved levels, which may take many reads a tile; native ones don't wait
                behind them.

        Raises:
            CancelledError: `stopped` is set.
        """
        with self._lock:
            if stopped.is_set():
                raise CancelledError
            if slow not in self._pools:
                self._pools[slow] = DaemonPool(self._threads, "xt-halves" if slow else "xt-tiles")
            return self._pools[slow]

    def release(self) -> None:
        """Close the file, end the threads, cancel what they have not begun."""
        with self._lock:
            pools, self._pools = self._pools, {}
            slide, self._slide = self._slide, None
            self._stopped.set()
            self._stopped = threading.Event()
        for pool in pools.values():
            pool.shut_down()
        if slide is not None:
            slide.close()
