"""Batches on a torch device: one padded shape, precision, and halving when memory is full."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xt_backend.errors import OutOfMemoryError

from ..device import Device, is_out_of_memory

__all__ = ["compute_batch", "computing", "padded_batch", "run_halving"]

_log = logging.getLogger(__name__)

_COMPUTE_BATCH = {"cpu": 8, "mps": 32, "cuda": 64}
"""Regions that go through the network together. Fixed by device kind and padded up, never the
user's batch size, so that results do not depend on it."""


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
    """Without gradients, in the device's precision.

    Convolutions in fp32 are computed as such: TF32, torch's default on CUDA, keeps 10 bits and put
    features of an untrained EfficientNet-Lite0 off by 2 %.
    """
    low = device.precision != "fp32"
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32 and low
    try:
        with torch.inference_mode(), torch.autocast(device.kind, device.dtype, enabled=low):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


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
    except Exception as error:
        if not is_out_of_memory(error):
            raise
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
