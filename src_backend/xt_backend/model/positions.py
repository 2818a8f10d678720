"""Places of tokens on the glass, and their encoding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xt_backend.errors import ModelError

__all__ = [
    "DEFAULT_WAVELENGTHS_UM",
    "rotate",
    "rotations",
    "sincos_2d",
    "token_positions_um",
]

DEFAULT_WAVELENGTHS_UM = (256.0, 65536.0)
"""Shortest and longest wave of the position encoding.

Two 128 um regions (256 px at 0.5 um/px) make one period of the shortest, so neighbours differ as
much as they can; the longest is about the length of the glass, so that no two places of a slide
look the same.
"""


def sincos_2d(
    positions_um: Tensor,
    dim: int,
    wavelengths_um: tuple[float, float] = DEFAULT_WAVELENGTHS_UM,
) -> Tensor:
    """Encode places as sines and cosines of x and y.

    Args:
        positions_um: (..., 2) x, y in um.
        dim: Size of the encoding. dim // 4 waves per axis, their lengths spaced geometrically;
            up to three zeros fill the rest.
        wavelengths_um: Shortest and longest wave.

    Returns:
        (..., dim): sin x, cos x, sin y, cos y, each with all waves from short to long; float64
        where the device has it, so that far places lose no phase.

    Raises:
        ModelError: dim is below 4.
    """
    waves = dim // 4
    if waves == 0:
        raise ModelError(
            f"Positions need a context dimension of at least 4, not {dim}",
            "use a larger dim or positions='none'",
        )
    phase = _phases(positions_um, waves, wavelengths_um)
    encoded = torch.cat([phase.sin(), phase.cos()], dim=-1).flatten(-2)
    return torch.nn.functional.pad(encoded, (0, dim - 4 * waves))


def rotations(
    positions_um: Tensor, heads: int, head_dim: int, wavelengths_um: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Sines and cosines by which `rotate` turns the channels of queries and keys.

    The waves are those of `sincos_2d`, dealt out to the heads in turn.

    Args:
        positions_um: (B, L, 2) x, y in um.
        heads: Number of heads.
        head_dim: Channels per head, at least 4; a quarter of them, rounded down, is the number of
            waves that each head has per axis.
        wavelengths_um: Shortest and longest wave.

    Returns:
        Two (B, heads, L, 2, head_dim // 4).
    """
    waves = head_dim // 4
    phase = _phases(positions_um, waves * heads, wavelengths_um)
    phase = phase.reshape(*positions_um.shape, waves, heads).permute(0, 4, 1, 2, 3)
    return phase.sin(), phase.cos()


def rotate(channels: Tensor, sines: Tensor, cosines: Tensor) -> Tensor:
    """Turn pairs of channels by the phases of their place.

    The product of two channels so turned depends on the distance of their places alone, so that
    attention sees where tokens lie to each other and nothing of where the glass begins.

    Args:
        channels: (B, heads, L, head_dim); channels beyond a multiple of four stay as they are.
        sines: From `rotations`.
        cosines: From `rotations`.

    Returns:
        As `channels`.
    """
    size = 4 * sines.shape[-1]
    # (B, heads, L, axis, half of a pair, wave)
    pairs = channels[..., :size].reshape(*channels.shape[:-1], 2, 2, size // 4)
    first, second = pairs.unbind(dim=-2)
    sines, cosines = sines.to(channels.dtype), cosines.to(channels.dtype)
    turned = [first * cosines - second * sines, first * sines + second * cosines]
    whole = torch.stack(turned, dim=-2).reshape(*channels.shape[:-1], size)
    return torch.cat([whole, channels[..., size:]], dim=-1)


def token_positions_um(centres_um: Tensor, tokens_per_region: int, region_um: float) -> Tensor:
    """Centres of the k x k tokens of each region.

    Args:
        centres_um: (..., N, 2) x, y of the regions' centres.
        tokens_per_region: k.
        region_um: Side of a region in um.

    Returns:
        (..., N * k * k, 2), region after region, raster order inside each.
    """
    k = tokens_per_region
    if k == 1:
        return centres_um
    along = (torch.arange(k, dtype=centres_um.dtype, device=centres_um.device) + 0.5) / k - 0.5
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    offsets = torch.stack([columns, rows], dim=-1).reshape(k * k, 2) * region_um
    return (centres_um.unsqueeze(-2) + offsets).flatten(-3, -2)


def _phases(positions_um: Tensor, waves: int, wavelengths_um: tuple[float, float]) -> Tensor:
    """Angles (..., 2, waves) of places (..., 2), the wavelengths spaced geometrically."""
    dtype = torch.float32 if positions_um.device.type == "mps" else torch.float64
    shortest, longest = wavelengths_um
    steps = torch.arange(waves, dtype=dtype, device=positions_um.device) / max(waves - 1, 1)
    lengths = shortest * (longest / shortest) ** steps
    return positions_um.to(dtype).unsqueeze(-1) * (2 * math.pi / lengths)
