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
from .calibration import calibration_numerics
from .mixed import with_exact_start
from .openvino_model import converted, load_openvino

__all__ = ["BATCH", "EXACT_SHARE", "OpenVinoBackend", "openvino_precisions"]

BATCH = 2
"""Several cores each with a batch of its own, small enough to stay in its cache, are faster by a
fifth than all of them on a larger one (tf_efficientnet_lite0, swinv2_tiny; 1 to 16 were tried)."""

_REQUESTS_A_STREAM = 2

_HINTS = {"fp32": "f32", "mixed": "bf16", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""In which precision is computed what is not quantised and not kept exact."""
_CAPABILITIES = {"mixed": "BF16", "bf16": "BF16", "fp16": "FP16"}

EXACT_SHARE = 3 / 8
"""Of the layers with weights, the first, which ``mixed`` computes in fp32. Rounding there grows on
its way through the rest: tf_efficientnet_lite0 on H&E is off by 8.5 % in bf16, by 4.4 % with these
exact, and keeps half of what bf16 gains; 1/4, 1/2 and 3/4 were tried."""


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
    """A stream of requests for every core; see `EncoderBackend`.

    Args:
        region_encoder: Maps (B, 3, R, R) uint8 to (B, k*k, D), on the CPU.
        precision: One of `openvino_precisions`, or ``int8``.
        folder: Where the converted model is kept, since converting takes seconds to a minute; None
            keeps nothing.

    Raises:
        ImportError: OpenVINO is not installed.
        Exception: It is broken, in whatever way.
    """

    name = "openvino-cpu"

    def __init__(self, region_encoder: RegionEncoder, precision: str, folder: Path | None) -> None:
        prepare_cpu()  # for what torch still computes
        self.precision = precision
        self.batch = BATCH
        self._streams = torch.get_num_threads()
        self.ahead = _REQUESTS_A_STREAM * self._streams - 1
        self._given, self._folder = region_encoder, folder
        self._version = str(load_openvino().__version__).partition("-")[0]
        if precision == "int8":
            calibration_numerics(region_encoder.region_px)  # told later, when nothing may fail
        self._requests: list[_Request] = []
        self._turn = 0
        self._lock = threading.Lock()

    def numerics(self) -> dict[str, Any]:
        """See `EncoderBackend`."""
        told: dict[str, Any] = {
            "backend": self.name,
            "backend_version": self._version,
            "precision": self.precision,
            "batch": self.batch,
        }
        if self.precision == "int8":
            told["calibration"] = calibration_numerics(self._given.region_px)
        if self.precision == "mixed":
            told["fp32_share"] = EXACT_SHARE
        return told

    def prepare(self) -> None:
        """See `EncoderBackend`."""
        if self._requests:
            return
        net = self._given.ready().to("cpu")
        shape = (self.batch, net.region_px, net.region_px, 3)
        core = load_openvino().Core()
        structure, weights = converted(net, shape, self._folder, int8=self.precision == "int8")
        if self.precision == "mixed":
            structure = with_exact_start(structure, EXACT_SHARE)
        compiled = core.compile_model(
            core.read_model(model=structure, weights=weights),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                "INFERENCE_NUM_THREADS": self._streams,
                "NUM_STREAMS": self._streams,
                # Pinned threads would keep the readers from these cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._requests = [_Request(compiled, shape) for _ in range(self.ahead + 1)]

    def start(self, pixels: Pixels) -> _Pending:
        """See `EncoderBackend`."""
        with self._lock:
            self.prepare()
            request = self._requests[self._turn]
            self._turn = (self._turn + 1) % len(self._requests)
            if request.pending is not None:
                request.pending.result()
            fill_padded(request.pixels, pixels)
            request.start()
            request.pending = _Pending(request, len(pixels))
            return request.pending
