"""The region encoder on the CPU through OpenVINO."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xt_backend.model import RegionEncoder

from ..device import prepare_cpu
from .base import Features, Pixels, fill_padded
from .openvino_model import converted, load_openvino

__all__ = ["BATCH", "OpenVinoBackend", "openvino_precisions"]

BATCH = 8

_REQUESTS = 2

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16"}


def openvino_precisions() -> tuple[str, ...]:
    """The precisions that this processor computes in, not only imitates.

    Raises:
        ImportError: OpenVINO is not installed.
        Exception: It is, but broken, in whatever way.
    """
    openvino = load_openvino()
    known = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", *(name for name, word in _CAPABILITIES.items() if word in known))


class _Request:
    def __init__(self, compiled: Any, shape: tuple[int, ...]) -> None:
        self._request = compiled.create_infer_request()
        self.pixels = np.empty(shape, np.uint8)
        self._tensor = load_openvino().Tensor(self.pixels, shared_memory=True)
        self._request.set_input_tensor(self._tensor)
        self.pending: _Pending | None = None

    def start(self) -> None:
        self._request.start_async()

    def tokens(self, n: int) -> Features:
        self._request.wait()
        found = self._request.get_output_tensor().data[:n]
        with np.errstate(over="ignore"):  # becomes a region without a number, as with torch
            return np.asarray(found).astype(np.float16)


class _Pending:
    def __init__(self, request: _Request, n: int) -> None:
        self._request, self._n = request, n
        self._features: Features | None = None

    def result(self) -> Features:
        """See `Pending`."""
        if self._features is None:
            try:
                self._features = self._request.tokens(self._n)
            finally:
                self._request.pending = None  # what failed does not fail the next batch too
        return self._features


class OpenVinoBackend:
    """Two requests in flight on all cores; see `EncoderBackend`.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D), on the CPU.
        precision: One of `openvino_precisions`.
        folder: Where the converted model is kept, since converting takes seconds to a minute; None
            keeps nothing.

    Raises:
        ImportError: OpenVINO is not installed.
        Exception: It is broken, in whatever way.
    """

    name = "openvino-cpu"
    ahead = _REQUESTS - 1

    def __init__(self, region_encoder: RegionEncoder, precision: str, folder: Path | None) -> None:
        prepare_cpu()  # for what torch still computes
        self.precision = precision
        self.batch = BATCH
        self._given, self._folder = region_encoder, folder
        self._version = str(load_openvino().__version__).partition("-")[0]
        self._requests: list[_Request] = []
        self._turn = 0
        self._lock = threading.Lock()

    def numerics(self) -> dict[str, Any]:
        """See `EncoderBackend`."""
        return {
            "backend": self.name,
            "backend_version": self._version,
            "precision": self.precision,
        }

    def prepare(self) -> None:
        """See `EncoderBackend`."""
        if self._requests:
            return
        net = self._given.ready().to("cpu")
        shape = (self.batch, net.region_px, net.region_px, 3)
        core = load_openvino().Core()
        compiled = core.compile_model(
            converted(core, net, shape, self._folder),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                # Pinned threads would keep the readers from these cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._requests = [_Request(compiled, shape) for _ in range(_REQUESTS)]

    def start(self, pixels: Pixels) -> _Pending:
        """See `EncoderBackend`."""
        with self._lock:
            self.prepare()
            request = self._requests[self._turn]
            self._turn = (self._turn + 1) % _REQUESTS
            if request.pending is not None:
                request.pending.result()
            fill_padded(request.pixels, pixels)
            request.start()
            request.pending = _Pending(request, len(pixels))
            return request.pending
