"""The kernel of mamba-ssm, which runs Mamba's recurrence on CUDA where it is installed."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["scan_kernel"]

_log = logging.getLogger(__name__)

Scan = Callable[..., tuple[Tensor, Tensor]]


def scan_kernel(like: Tensor) -> Scan | None:
    """The kernel for tensors on this device, called as `selective_scan`; None where there is none.

    It starts from a state of zeros and takes no other.
    """
    return _kernel() if like.is_cuda and like.dtype != torch.float64 else None


@functools.cache
def _kernel() -> Scan | None:
    try:
        module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except Exception as error:  # absent, or built for another torch or CUDA
        if not isinstance(error, ModuleNotFoundError):
            _log.warning(
                "mamba-ssm is installed but does not load (%s): Mamba runs without it, slower",
                type(error).__name__,
            )
        return None
    return functools.partial(_run, module.selective_scan_fn)


def _run(
    function: Callable[..., Any],
    inputs: Tensor,
    steps: Tensor,
    decay: Tensor,
    write: Tensor,
    read: Tensor,
    state: None = None,
) -> tuple[Tensor, Tensor]:
    """Put time last, as the kernel wants it, and the result back."""
    signal, step, writing, reading = (
        value.float().transpose(1, 2).contiguous() for value in (inputs, steps, write, read)
    )
    outputs, last = function(
        signal, step, decay.float().T.contiguous(), writing, reading, return_last_state=True
    )
    return outputs.transpose(1, 2).to(inputs.dtype), last.transpose(1, 2)
