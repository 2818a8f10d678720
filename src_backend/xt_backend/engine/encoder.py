"""Runs a region encoder over uint8 batches on one device."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.errors import OutOfMemoryError
from xt_backend.model import RegionEncoder

from .device import Device, prepare_cpu

__all__ = ["BatchEncoder", "compute_batch", "computing", "padded_batch", "run_halving"]

_log = logging.getLogger(__name__)

NUMERICS_SCHEMA = 1

_COMPUTE_BATCH = {"cpu": 8, "mps": 32, "cuda": 64}
"""Regions that go through the network together. Fixed by device kind and padded up, never the
user's batch size, so that results do not depend on it."""


class BatchEncoder:
    """Region encoder on a device, with one padded batch shape.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D).
        device: Where and how precisely to compute.

    Attributes:
        seconds: Wall time spent encoding so far.
        n_encoded: Regions encoded so far, padding not counted.
    """

    def __init__(self, region_encoder: RegionEncoder, device: Device) -> None:
        if device.kind == "cpu":
            prepare_cpu()
        self.device = device
        self._given = region_encoder
        self._batch = compute_batch(device)
        self.seconds = 0.0
        self.n_encoded = 0

    def numerics(self) -> dict[str, Any]:
        """What the features depend on besides pixels: part of the region store's key."""
        return {
            **self._given.numerics(),
            "backend": f"torch-{self.device.kind}",
            "precision": self.device.precision,
            "schema": NUMERICS_SCHEMA,
        }

    @property
    def token_shape(self) -> tuple[int, int]:
        """(k*k, D) of one region."""
        return self._given.tokens_per_region**2, self._given.dim

    @functools.cached_property
    def _net(self) -> RegionEncoder:
        """The encoder where and how it computes; made when the first region needs it."""
        net = self._given.ready().to(self.device.name)
        return net.to(memory_format=torch.channels_last).eval()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Encode regions.

        Args:
            pixels: (n, R, R, 3) uint8, any n.

        Returns:
            (n, k*k, D) float16. The same row gives the same bytes in any company.

        Raises:
            OutOfMemoryError: Even one region does not fit on the device.
        """
        start = time.perf_counter()
        parts = [
            self._encode_padded(pixels[first : first + self._batch])
            for first in range(0, len(pixels), self._batch)
        ]
        self.seconds += time.perf_counter() - start
        self.n_encoded += len(pixels)
        return np.concatenate(parts)

    def _encode_padded(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        (batch,) = padded_batch(self.device, pixels)
        return run_halving(self._compute, batch, device=self.device)[: len(pixels)].cpu().numpy()

    def _compute(self, batch: torch.Tensor) -> torch.Tensor:
        images = batch.to(self.device.name, non_blocking=True).permute(0, 3, 1, 2)
        with computing(self.device):
            tokens: torch.Tensor = self._net(images)
        return tokens.to(torch.float16)


def compute_batch(device: Device) -> int:
    """Regions that go through a network together on a device."""
    return _COMPUTE_BATCH[device.kind]


def padded_batch(device: Device, *arrays: npt.NDArray[Any]) -> tuple[torch.Tensor, ...]:
    """Arrays of at most `compute_batch` rows as tensors of exactly so many.

    The first row stands in for the missing ones.
    """
    size, tensors = compute_batch(device), []
    for array in arrays:
        given = torch.from_numpy(np.ascontiguousarray(array))
        batch = torch.empty(
            (size, *given.shape[1:]), dtype=given.dtype, pin_memory=device.kind == "cuda"
        )
        batch[: len(given)] = given
        batch[len(given) :] = given[:1]
        tensors.append(batch)
    return tuple(tensors)


@contextmanager
def computing(device: Device) -> Iterator[None]:
    """Without gradients, in the device's precision."""
    low = device.precision != "fp32"
    with torch.inference_mode(), torch.autocast(device.kind, device.dtype, enabled=low):
        yield


def run_halving(
    compute: Callable[..., torch.Tensor], *batch: torch.Tensor, device: Device
) -> torch.Tensor:
    """Compute a batch; on out of memory halve this batch only, down to one region.

    Args:
        compute: From tensors of b rows to one of b rows.
        batch: Tensors of b rows; the first is (b, R, R, 3).
        device: Where it runs.

    Raises:
        OutOfMemoryError: Even one region does not fit on the device.
    """
    regions = batch[0]
    try:
        return compute(*batch)
    except torch.OutOfMemoryError as error:
        if len(regions) == 1:
            raise OutOfMemoryError(
                f"One region of {regions.shape[1]} px does not fit into the memory of "
                f"{device.name}",
                "Use --device cpu, a smaller model, or free the device's memory",
            ) from error
    if device.kind == "cuda":
        torch.cuda.empty_cache()
    half = len(regions) // 2
    _log.warning("out of memory with %d regions, going on with %d", len(regions), half)
    first = run_halving(compute, *(part[:half] for part in batch), device=device)
    second = run_halving(compute, *(part[half:] for part in batch), device=device)
    return torch.cat([first, second])
