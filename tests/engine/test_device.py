"""Which device is taken, and what is said about it."""

from __future__ import annotations

import pytest
import torch

from xt_backend.engine import choose_device, device, is_out_of_memory
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


@pytest.mark.parametrize(("takes_all", "threshold"), [(True, 2**31 - 1), (False, 32 << 20)])
def test_buffers_are_kept_as_far_as_the_c_library_can(
    takes_all: bool, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: dict[int, int] = {}

    class Library:
        @staticmethod
        def mallopt(what: int, value: int) -> int:
            if what == -3 and value > 32 << 20 and not takes_all:
                return 0
            set_to[what] = value
            return 1

    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: Library)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    device.prepare_cpu()
    assert set_to == {-3: threshold, -1: 2**31 - 1}
    set_to.clear()
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1")
    device.prepare_cpu()
    assert not set_to


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_full_memory_is_told_from_other_errors(error: Exception, full: bool) -> None:
    assert is_out_of_memory(error) is full
