"""The region encoder in torch, batch after batch, on any device."""

from __future__ import annotations

import functools
from typing import Any

import torch

from xt_backend.model import RegionEncoder

from ..device import Device, prepare_cpu
from .base import Done, Pixels
from .batches import compute_batch, computing, padded_batch, run_halving

__all__ = ["TorchBackend"]


class TorchBackend:
    """Computes in the caller's thread; see `EncoderBackend`.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D).
        device: Where and how precisely to compute.
    """

    ahead = 0

    def __init__(self, region_encoder: RegionEncoder, device: Device) -> None:
        if device.kind == "cpu":
            prepare_cpu()
        self._device = device
        self._given = region_encoder
        self.name = f"torch-{device.kind}"
        self.precision = device.precision
        self.batch = compute_batch(device)

    def numerics(self) -> dict[str, Any]:
        """See `EncoderBackend`."""
        return {"backend": self.name, "precision": self.precision}

    def prepare(self) -> None:
        """See `EncoderBackend`."""
        self._net  # noqa: B018  made when first named

    @functools.cached_property
    def _net(self) -> RegionEncoder:
        net = self._given.ready().to(self._device.name)
        return net.to(memory_format=torch.channels_last).eval()

    def start(self, pixels: Pixels) -> Done:
        """See `EncoderBackend`."""
        (batch,) = padded_batch(self._device, pixels)
        found = run_halving(self._compute, batch, device=self._device)
        return Done(found[: len(pixels)].cpu().numpy())

    def _compute(self, batch: torch.Tensor) -> torch.Tensor:
        images = batch.to(self._device.name).permute(0, 3, 1, 2)
        # Made outside: parameters that inference mode has touched can no longer be trained.
        net = self._net
        with computing(self._device):
            tokens: torch.Tensor = net(images)
        return tokens.to(torch.float16)
