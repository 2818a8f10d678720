"""Which device is taken, and what is said about it."""

from __future__ import annotations

import pytest
import torch

from xt_backend.engine import choose_device
from xt_backend.errors import DeviceError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def pretend(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "name", "precision", "word"),
    [
        (1, True, "cuda:0", "fp16", "Some GPU"),
        (1, False, "cuda:0", "fp16", "Some GPU"),
        (0, True, "mps", "fp32", "Apple"),
        (0, False, "cpu", "fp32", "no CUDA device"),
    ],
)
def test_auto_takes_the_best_and_says_why(machine, cuda, mps, name, precision, word) -> None:
    machine(cuda, mps)
    device = choose_device()
    assert (device.name, device.precision) == (name, precision)
    assert word in device.reason


@pytest.mark.parametrize("asked", ["cuda", "cuda:3", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, asked: str) -> None:
    machine(0, False)
    with pytest.raises(DeviceError, match=asked.split(":")[0]):
        choose_device(asked)


def test_half_precision_needs_a_gpu(machine) -> None:
    machine(0, False)
    with pytest.raises(DeviceError, match="fp16"):
        choose_device("cpu", "fp16")
