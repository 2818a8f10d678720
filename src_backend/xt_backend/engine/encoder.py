"""Runs a region encoder over uint8 batches, in whatever way a backend computes it."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

from xt_backend.model import RegionEncoder

from .device import Device
from .encoders import Done, EncoderBackend, Features, Pending, Pixels, plain_backend

__all__ = ["BatchEncoder"]

NUMERICS_SCHEMA = 1


class BatchEncoder:
    """Region encoder on a device, with one padded batch shape.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D).
        device: Where and how precisely to compute.
        backend: Computes it; None for torch.

    Attributes:
        seconds: Wall time spent encoding so far, waiting for the device included.
        n_encoded: Regions encoded so far, padding not counted.
    """

    def __init__(
        self, region_encoder: RegionEncoder, device: Device, backend: EncoderBackend | None = None
    ) -> None:
        self.device = device
        self._net = region_encoder
        self.backend = plain_backend(region_encoder, device) if backend is None else backend
        self.seconds = 0.0
        self.n_encoded = 0

    def numerics(self) -> dict[str, Any]:
        """What the features depend on besides pixels: part of the region store's key."""
        return {
            **self._net.numerics(),
            **self.backend.numerics(),
            "schema": NUMERICS_SCHEMA,
        }

    @property
    def token_shape(self) -> tuple[int, int]:
        """(k*k, D) of one region."""
        return self._net.tokens_per_region**2, self._net.dim

    def prepare(self) -> None:
        """Do what else the first region would wait for.

        Raises:
            Exception: The backend cannot compute this encoder, in whatever way.
        """
        self.backend.prepare()

    @property
    def ahead(self) -> int:
        """Calls of `start` that are worth making before the first result is asked for."""
        return 1 if self.backend.ahead else 0

    def encode(self, pixels: Pixels) -> Features:
        """Encode regions.

        Args:
            pixels: (n, R, R, 3) uint8, any n.

        Returns:
            (n, k*k, D) float16. The same row gives the same bytes in any company.

        Raises:
            OutOfMemoryError: Even one region does not fit on the device.
        """
        return self._begin(pixels).result()

    def start(self, pixels: Pixels) -> Pending:
        """Begin to encode regions; their features are the same as of `encode`.

        Args:
            pixels: As of `encode`; they may change when this has returned.

        Raises:
            OutOfMemoryError: As of `encode`.
        """
        return self._begin(pixels) if self.ahead else Done(self.encode(pixels))

    def _begin(self, pixels: Pixels) -> _Several:
        started = time.perf_counter()
        size, parts = self.backend.batch, []
        waiting: deque[Pending] = deque()
        finished: list[Features] = []
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
        features = np.concatenate([part.result() for part in self._parts])
        self._encoder.seconds += time.perf_counter() - started
        return features
