"""The backend that computes an encoder in a certain way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xt_backend.model import RegionEncoder

from ..device import Device
from .base import EncoderBackend
from .cuda import CudaBackend
from .openvino_cpu import OpenVinoBackend
from .plain import TorchBackend
from .way import Way

__all__ = ["make_backend"]


def make_backend(
    region_encoder: RegionEncoder, device: Device, way: Way, folder: Path | None
) -> EncoderBackend:
    """The backend that computes an encoder in a certain way.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D).
        device: Where to compute; its precision gives way to that of `way`.
        way: How to compute.
        folder: Where models are kept that take long to make; None keeps none.

    Raises:
        Exception: The backend is missing or broken, in whatever way.
    """
    if way.backend in ("openvino", "openvino-int8"):
        return OpenVinoBackend(region_encoder, way.precision, folder)
    own = replace(device, precision=way.precision)
    if device.kind == "cuda":
        compiled = way.backend == "torch-compile"
        return CudaBackend(region_encoder, own, way.batch, compiled=compiled)
    return TorchBackend(region_encoder, own)
