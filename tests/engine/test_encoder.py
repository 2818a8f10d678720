"""Batches through the encoder: same bytes in any company, and out-of-memory back-off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from xt_backend.engine import BatchEncoder, Device
from xt_backend.engine.encoders.batches import computing
from xt_backend.errors import OutOfMemoryError
from xt_backend.model import build_region_encoder

CPU = Device("cpu", "fp32", "test")


class FakeEncoder(torch.nn.Module):
    """Sums each region; runs out of memory above `limit` regions."""

    tokens_per_region = 1
    dim = 3

    def __init__(self, limit: int, error: Exception | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.error = error or torch.OutOfMemoryError("out of memory")
        self.batches: list[int] = []

    def ready(self) -> FakeEncoder:
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        if len(images) > self.limit:
            raise self.error
        return images.float().mean((2, 3))[:, None]

    def numerics(self) -> dict[str, Any]:
        return {"encoder": "fake"}


def regions(n: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("Invalid buffer size: 24.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_out_of_memory_halves_only_the_failing_batch(error: Exception) -> None:
    pixels = regions(20)
    whole = BatchEncoder(FakeEncoder(1000), CPU).encode(pixels)
    small = FakeEncoder(3, error)
    np.testing.assert_array_equal(BatchEncoder(small, CPU).encode(pixels), whole)
    assert max(small.batches) == 8
    assert sum(batch for batch in small.batches if batch <= 3) == 24  # 20 and the padding


def test_out_of_memory_with_one_region_says_what_to_do() -> None:
    with pytest.raises(OutOfMemoryError, match="--device cpu"):
        BatchEncoder(FakeEncoder(0), CPU).encode(regions(1))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto"])
def test_a_region_has_the_same_bytes_in_any_company(name: str) -> None:
    side = 64
    net = build_region_encoder(name, region_px=side, weights="random")
    encoder = BatchEncoder(net, CPU)
    pixels = regions(11, side)
    together = encoder.encode(pixels)
    alone = np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(11)])
    backwards = encoder.encode(pixels[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == backwards.tobytes()
    assert together.shape[1:] == encoder.token_shape


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("bf16", True)])
def test_full_precision_is_not_rounded_to_tf32(precision: str, tf32: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    with computing(Device("cpu", precision, "asked for")):
        assert torch.backends.cudnn.allow_tf32 is (tf32 and before)
    assert torch.backends.cudnn.allow_tf32 is before


def test_an_encoder_can_be_trained_after_it_has_encoded() -> None:
    encoder = build_region_encoder("test_resnet", region_px=64, weights="random")
    BatchEncoder(encoder, CPU).encode(regions(2, 64))
    assert not any(parameter.is_inference() for parameter in encoder.parameters())
