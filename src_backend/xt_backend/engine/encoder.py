"""Runs a region encoder over uint8 batches, in whatever way a backend computes it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xt_backend.errors import DeviceError, XTError
from xt_backend.model import RegionEncoder

from .device import Device, is_out_of_memory
from .encoders import (
    Done,
    EncoderBackend,
    Features,
    Pending,
    Pixels,
    Way,
    failure_words,
    make_backend,
    usual_way,
)

__all__ = ["BatchEncoder"]

NUMERICS_SCHEMA = 1

_log = logging.getLogger(__name__)


class BatchEncoder:
    """Region encoder on a device, with one padded batch shape.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D).
        device: Where it is.
        way: How to compute; None for torch in the device's precision.
        folder: Where models are kept that take long to make; None keeps none.
        backend: What computes it so; None makes it.

    Attributes:
        backend: Computes it.
        seconds: Wall time spent encoding so far, waiting for the device included.
        seconds_load: Wall time spent making ready what encodes.
        n_encoded: Regions encoded so far, padding not counted.

    Raises:
        DeviceError: It cannot be computed in this way: a library is missing or broken.
    """

    def __init__(
        self,
        region_encoder: RegionEncoder,
        device: Device,
        way: Way | None = None,
        folder: Path | None = None,
        *,
        backend: EncoderBackend | None = None,
    ) -> None:
        self.region_encoder = region_encoder
        self.device = device
        self.way = usual_way(device) if way is None else way
        with self._telling():
            self.backend = backend or make_backend(region_encoder, device, self.way, folder)
        self.seconds = 0.0
        self.seconds_load = 0.0
        self._ready = False
        self.n_encoded = 0

    def numerics(self) -> dict[str, Any]:
        """What the features depend on besides pixels: part of the region store's key."""
        return {
            **self.region_encoder.numerics(),
            **self.backend.numerics(),
            "schema": NUMERICS_SCHEMA,
        }

    @property
    def unusual(self) -> bool:
        """It computes in another way than as torch usually does."""
        return self.way != usual_way(self.device)

    def told(self) -> dict[str, Any]:
        """What a run says of how it encodes: nothing where that is as usual."""
        if not self.unusual:
            return {}
        known = self.backend.numerics()
        names = ("backend_version", "batch", "calibration")
        more = {name: known[name] for name in names if name in known}
        return {"encoder": {**self.way.to_dict(), **more}}

    @property
    def token_shape(self) -> tuple[int, int]:
        """(k*k, D) of one region."""
        return self.region_encoder.tokens_per_region**2, self.region_encoder.dim

    def prepare(self) -> None:
        """Do what else the first region would wait for.

        Raises:
            DeviceError: The encoder cannot be computed in this way.
            ModelError: Its weights do not fit it.
        """
        started = time.perf_counter()
        try:
            with self._telling():
                self.backend.prepare()
            self._ready = True
        finally:
            self.seconds_load += time.perf_counter() - started

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say which way is closed: a library that is broken fails in ways of its own.

        Torch as usual is no library that may be missing, and what it says is told as it is.
        """
        try:
            yield
        except XTError:
            raise
        except Exception as error:
            if not self.unusual:
                raise
            _log.warning("%s cannot be used", self.way, exc_info=True)
            first = "Close other programs" if is_out_of_memory(error) else "Repair it"
            raise DeviceError(
                f"{self.way} cannot be used now: {failure_words(error)}",
                f"{first}, or use --encoder-backend torch and another folder",
            ) from error

    @property
    def ahead(self) -> int:
        """Calls of `start` that are worth making before the first result is asked for."""
        return 1 if self.backend.ahead else 0

    @property
    def in_flight(self) -> int:
        """Regions that keep the device busy while others are fetched."""
        return self.backend.batch * max(1, self.backend.ahead)

    def encode(self, pixels: Pixels) -> Features:
        """Encode regions.

        Args:
            pixels: (n, R, R, 3) uint8, any n.

        Returns:
            (n, k*k, D) float16. The same row gives the same bytes in any company.

        Raises:
            OutOfMemoryError: Even one region does not fit on the device.
            DeviceError: What computes in an unusual way has broken.
        """
        return self._begin(pixels).result()

    def start(self, pixels: Pixels) -> Pending:
        """Begin to encode regions; their features are the same as of `encode`.

        Args:
            pixels: As of `encode`; they may change when this has returned.

        Raises:
            OutOfMemoryError: As of `encode`.
            DeviceError: As of `encode`.
        """
        return self._begin(pixels) if self.ahead else Done(self.encode(pixels))

    def _begin(self, pixels: Pixels) -> _Several:
        if not self._ready:
            self.prepare()
        started = time.perf_counter()
        size, parts = self.backend.batch, []
        waiting: deque[Pending] = deque()
        finished: list[Features] = []
        with self._telling():
            for first in range(0, len(pixels), size):
                if len(waiting) > self.backend.ahead:
                    finished.append(waiting.popleft().result())
                waiting.append(self.backend.start(pixels[first : first + size]))
        parts = [*map(Done, finished), *waiting]
        self.seconds += time.perf_counter() - started
        self.n_encoded += len(pixels)
        return _Several(self, parts)


class _Several:
    """Batches that are being encoded, as one."""

    def __init__(self, encoder: BatchEncoder, parts: list[Pending]) -> None:
        self._encoder = encoder
        self._parts = parts

    def result(self) -> Features:
        """See `Pending`."""
        started = time.perf_counter()
        with self._encoder._telling():
            features = np.concatenate([part.result() for part in self._parts])
        self._encoder.seconds += time.perf_counter() - started
        return features
