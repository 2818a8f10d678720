"""The region encoder on CUDA: the next batch is copied while the last one is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch

from xt_backend.model import RegionEncoder

from ..device import Device
from .base import Features, Pixels, fill_padded
from .batches import compute_batch, computing, run_halving

__all__ = ["CudaBackend", "Driver"]

_SLOTS = 2


class _Event(Protocol):
    def record(self) -> None: ...

    def synchronize(self) -> None: ...


class Driver:
    """The few things that are asked of CUDA itself; tests put another in its place.

    Args:
        name: Of the device, e.g. ``cuda:0``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._copies = torch.cuda.Stream(name)  # type: ignore[no-untyped-call]

    def using(self) -> AbstractContextManager[Any]:
        """What is asked for within is meant for this device, whichever is the current one."""
        return torch.cuda.device(self._name)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host that the device can copy from while the host goes on."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def on_device(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the device."""
        return torch.empty(shape, dtype=dtype, device=self._name)

    def copying(self) -> AbstractContextManager[Any]:
        """What is asked for within goes on beside what is computed."""
        return torch.cuda.stream(self._copies)

    def event(self) -> _Event:
        """Can be recorded, and waited for asleep: the reader threads need the cores."""
        event: _Event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        return event

    def copy_after_all(self) -> None:
        """What is copied from now on waits for all that was asked to be computed until now."""
        self._copies.wait_stream(torch.cuda.current_stream(self._name))

    def compute_after(self, event: _Event) -> None:
        """What is computed from now on waits for an event."""
        torch.cuda.current_stream(self._name).wait_event(event)  # type: ignore[arg-type]


class _Slot:
    """Buffers of one batch in flight."""

    def __init__(self, driver: Driver, shape: tuple[int, ...]) -> None:
        self.host = driver.pinned(shape, torch.uint8)
        self.images = driver.on_device(shape, torch.uint8)
        self.tokens: torch.Tensor | None = None
        self.copied, self.computed = driver.event(), driver.event()
        self.pending: _Pending | None = None


class _Pending:
    def __init__(self, slot: _Slot, n: int) -> None:
        self._slot, self._n = slot, n
        self._features: Features | None = None

    def result(self) -> Features:
        """See `Pending`."""
        if self._features is None:
            slot = self._slot
            slot.computed.synchronize()
            if slot.tokens is None:
                raise RuntimeError("a batch ended without tokens")
            self._features = slot.tokens[: self._n].numpy().copy()
            slot.pending = None
        return self._features


class CudaBackend:
    """Two batches in flight, each in buffers of its own; see `EncoderBackend`.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D).
        device: Where and how precisely to compute.
        batch: Regions that are computed together; None for the usual number.
        compiled: Let torch compile the encoder, which takes minutes with the first batch.
        driver: Makes the buffers and streams.
    """

    ahead = _SLOTS - 1

    def __init__(
        self,
        region_encoder: RegionEncoder,
        device: Device,
        batch: int | None = None,
        *,
        compiled: bool = False,
        driver: Callable[[str], Driver] = Driver,
    ) -> None:
        self._device = device
        self._given, self._compiled = region_encoder, compiled
        self._make_driver = driver
        self._slots: list[_Slot] = []
        self._turn = 0
        self.name = f"torch{'-compile' * compiled}-{device.kind}"
        self.precision = device.precision
        self.batch = batch or compute_batch(device)

    def numerics(self) -> dict[str, Any]:
        """See `EncoderBackend`."""
        usual = self.batch == compute_batch(self._device)
        more = {} if usual else {"batch": self.batch}
        return {"backend": self.name, "precision": self.precision, **more}

    def prepare(self) -> None:
        """See `EncoderBackend`."""
        self._net, self._driver  # noqa: B018  made when first named

    @functools.cached_property
    def _net(self) -> Callable[[torch.Tensor], torch.Tensor]:
        net = self._given.ready().to(self._device.name)
        net = net.to(memory_format=torch.channels_last).eval()
        return torch.compile(net) if self._compiled else net

    @functools.cached_property
    def _driver(self) -> Driver:
        return self._make_driver(self._device.name)

    def start(self, pixels: Pixels) -> _Pending:
        """See `EncoderBackend`."""
        with self._driver.using():
            return self._start(self._driver, pixels)

    def _start(self, driver: Driver, pixels: Pixels) -> _Pending:
        slot = self._free_slot(pixels.shape[1:])
        fill_padded(slot.host.numpy(), np.asarray(pixels))
        with driver.copying():
            slot.images.copy_(slot.host, non_blocking=True)
            slot.copied.record()
        driver.compute_after(slot.copied)
        try:
            # Out of memory is found when the work is handed over, before any of it is done.
            tokens = run_halving(self._compute, slot.images, device=self._device)
            if slot.tokens is None:
                slot.tokens = driver.pinned(tuple(tokens.shape), torch.float16)
            # In the stream of the computation: in the other it would hold up the next batch.
            slot.tokens.copy_(tokens, non_blocking=True)
        finally:
            # Also of what fails: parts of it may still be read when its buffers are next filled.
            slot.computed.record()
        slot.pending = _Pending(slot, len(pixels))
        return slot.pending

    def _free_slot(self, region: tuple[int, ...]) -> _Slot:
        if not self._slots:
            shape = (self.batch, *region)
            self._slots = [_Slot(self._driver, shape) for _ in range(_SLOTS)]
            # Their memory may be what weights lay in that are still being rearranged.
            self._driver.copy_after_all()
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % _SLOTS
        if slot.pending is not None:
            slot.pending.result()
        slot.computed.synchronize()  # at once where it was waited for, or never recorded
        return slot

    def _compute(self, images: torch.Tensor) -> torch.Tensor:
        net = self._net  # made outside, see `TorchBackend`
        with computing(self._device):
            return net(images.permute(0, 3, 1, 2)).to(torch.float16)
