"""Which device and precision a run uses, and why."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

import torch

from xt_backend.errors import DeviceError
from xt_backend.wording import counted

__all__ = ["Device", "choose_device", "is_out_of_memory", "prepare_cpu"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_MALLOC_BYTES = 2**31 - 1
"""Smaller buffers stay mapped between batches."""

_FULL = (
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",  # of memory of the host that a device copies from, and others
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "Invalid buffer size",  # MPS, of more than the device takes in one piece
)
"""In what torch says when memory is full."""

_OLD_MALLOC_BYTES = 32 << 20
"""The most that older versions of glibc take."""


@dataclass(frozen=True)
class Device:
    """A torch device with its numerics.

    Attributes:
        name: For example ``cpu``, ``cuda:0``, ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        reason: Why it was chosen, in words.
    """

    name: str
    precision: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        """Type of the encoder's arithmetic."""
        return _DTYPES[self.precision]

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""
        return self.name.split(":")[0]


def choose_device(asked: str = "auto", precision: str = "auto") -> Device:
    """Pick a device: cuda before mps before cpu, or what was asked for.

    Raises:
        DeviceError: The device that was asked for is not there, or can't do the precision.
    """
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if asked == "auto":
        if cuda:
            name, reason = "cuda:0", f"auto: {torch.cuda.get_device_name(0)} found"
        elif mps:
            name, reason = "mps", "auto: no CUDA device, Apple GPU found"
        else:
            name, reason = "cpu", "auto: no CUDA device and no Apple GPU found"
    else:
        name, reason = asked, "asked for"
        if asked.startswith("cuda"):
            count = torch.cuda.device_count() if cuda else 0
            index = int(asked.split(":")[1]) if ":" in asked else 0
            if index >= count:
                raise DeviceError(
                    f"Device {asked} was asked for, but torch sees {counted(count, 'CUDA device')}",
                    "Use --device auto or cpu, or install a CUDA build of torch",
                )
            name = f"cuda:{index}"
        if asked == "mps" and not mps:
            raise DeviceError(
                "Device mps was asked for, but there is no Apple GPU", "Use --device auto"
            )
    return Device(name, _choose_precision(name, precision), reason)


def _choose_precision(name: str, asked: str) -> str:
    kind = name.split(":")[0]
    if asked == "auto":
        if kind == "cuda":
            # Convolutional encoders lose a tenth of what tells regions apart to bf16, nothing
            # that shows to fp16; a value beyond its range becomes a failed region, never a label.
            return "fp16"
        return "fp32"
    if asked == "fp16" and kind == "cpu":
        raise DeviceError(
            "Precision fp16 is not available on the CPU", "Use --precision bf16 or fp32"
        )
    return asked


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that memory is full.

    What torch's own allocator for CUDA says has a class; of the CPU, of MPS and of the libraries
    that take memory on CUDA by themselves only the text tells.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _FULL)


def prepare_cpu() -> None:
    """Keep glibc from giving activation buffers back to the system after every call.

    Returning and re-faulting them costs more than half of the time of small convolutional
    encoders. Does nothing elsewhere, nor where the user has set glibc's own variable.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and other C libraries
        return
    if not mallopt(m_mmap_threshold, _MALLOC_BYTES):
        mallopt(m_mmap_threshold, _OLD_MALLOC_BYTES)
    mallopt(m_trim_threshold, _MALLOC_BYTES)
