"""The content of a module's weights: its hash, and seeded values that are equal everywhere."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

__all__ = ["fill_random", "state_sha256", "tensors_sha256"]

_SMALL_STD = 0.02
_SMALL_NAMES = ("pos_embed", "token", "bias_table", "rel_pos")


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of all parameters and persistent buffers.

    The device does not matter. 64 hex digits.
    """
    return tensors_sha256(module.state_dict())


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """`state_sha256` of a module with these tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        raw = values.reshape(-1).view(torch.uint8).numpy()
        if sys.byteorder == "big":
            raw = raw.reshape(-1, values.element_size())[:, ::-1]
        digest.update(raw.tobytes())
    return digest.hexdigest()


@torch.no_grad()
def fill_random(module: nn.Module, seed: int) -> None:
    """Overwrite all weights that initialisation draws at random with reproducible ones.

    Library initialisers go through vectorised logarithms whose last bits differ between
    processors. Here integers of a counter-based generator are scaled instead, one stream per
    parameter name, so that the result depends on the seed and the architecture only.
    Constant parameters (biases, norms, layer scales) keep their value; fixed ones are not touched.

    Args:
        module: Changed in place.
        seed: Not negative.
    """
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad or parameter.numel() == 0:
            continue
        lowest, highest = parameter.aminmax()
        if lowest == highest:
            parameter.fill_(round(float(lowest), 6))
            continue
        bound = math.sqrt(3.0) * _std(name, tuple(parameter.shape))
        key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
        generator = np.random.Generator(np.random.Philox(key=key))
        uniform = generator.random(parameter.numel(), dtype=np.float32)
        values = (2 * uniform - 1) * np.float32(bound)
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))


def _std(name: str, shape: tuple[int, ...]) -> float:
    if len(shape) < 2 or any(mark in name for mark in _SMALL_NAMES):
        return _SMALL_STD
    gain = 2.0 if len(shape) == 4 else 1.0
    return math.sqrt(gain / math.prod(shape[1:]))
