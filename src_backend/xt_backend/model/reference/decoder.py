"""What the reference does after its backbone: projection, places, context layers, class logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from xt_backend.errors import ModelError
from xt_backend.model.card import ContextInfo
from xt_backend.model.reference.mamba import MambaBlock

__all__ = ["HEAD_DIM", "KINDS", "Decoder", "grid_sincos"]

HEAD_DIM = 128
"""Heads of the attention layers have this size, whatever a configuration asked for."""

KINDS = {"hyper": ("mlp_dim",), "mamba": ("inner", "state", "conv", "step_rank")}
"""Context layers that the reference has, and the sizes that its weights give them."""

_LONGEST_WAVE = 10_000.0
_RMS_EPS = 1e-5


def grid_sincos(height: int, width: int, dim: int) -> Tensor:
    """Encode the places of a grid as sines and cosines of their column and row numbers.

    Returns:
        (height * width, dim) float32 in raster order: sin x, cos x, sin y, cos y, a quarter each.
    """
    waves = _LONGEST_WAVE ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    phases = [place.reshape(-1, 1) * waves for place in (x, y)]
    return torch.cat([part for phase in phases for part in (phase.sin(), phase.cos())], 1).float()


class _Attention(nn.Module):
    """Exact causal attention.

    The reference samples it above 4096 tokens, at random; here it stays exact at any length.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, dim = tokens.shape
        parts = self.qkv(tokens).view(batch, length, 3, dim // HEAD_DIM, HEAD_DIM)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, dim))
        return out


class _GatedMlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.down_proj(gelu(self.gate_proj(tokens)) * self.up_proj(tokens))
        return out


class _HyperLayer(nn.Module):
    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(dim, eps=_RMS_EPS)
        self.attn = _Attention(dim)
        self.post_attention_layernorm = nn.RMSNorm(dim, eps=_RMS_EPS)
        self.mlp = _GatedMlp(dim, mlp_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.input_layernorm(tokens))
        out: Tensor = tokens + self.mlp(self.post_attention_layernorm(tokens))
        return out


class _MambaLayer(nn.Module):
    """The block is added to the normalised tokens: the reference forgets the others."""

    def __init__(self, dim: int, *, backwards: bool, **sizes: int) -> None:
        super().__init__()
        self.backwards = backwards
        self.norm = nn.LayerNorm(dim)
        self.mixer = MambaBlock(dim, **sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        if not self.backwards:
            mixed: Tensor = self.mixer(tokens)
        else:
            mixed = self.mixer(tokens.flip(1)).flip(1)
        return tokens + mixed


class Decoder(nn.Module):
    """From the map of a whole crop to its class logits.

    Args:
        in_dim: Channels of the map.
        n_classes: Size of the logits.
        context: Kind ``hyper`` or ``mamba``, size of the tokens, number of layers, and as options
            the sizes that `KINDS` lists.

    Raises:
        ModelError: Another kind, or sizes that are missing or out of range.
    """

    def __init__(self, in_dim: int, n_classes: int, context: ContextInfo) -> None:
        super().__init__()
        dim, sizes = context.dim, _sizes(context)
        self.input_proj = nn.Linear(in_dim, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        layers: list[nn.Module] = []
        for index in range(context.layers):
            if context.kind == "hyper":
                layers.append(_HyperLayer(dim, **sizes))
            else:
                layers.append(_MambaLayer(dim, backwards=index % 2 == 0, **sizes))
        self.layers = nn.ModuleList(layers)
        self.cls = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, n_classes))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in_dim, h, w) to logits (B, C).

        The map's places are read in raster order over the whole crop. The class token comes last,
        so that causal layers let it see everything.
        """
        height, width = maps.shape[2:]
        tokens = self.input_proj(maps.flatten(2).transpose(1, 2))
        tokens = tokens + grid_sincos(height, width, tokens.shape[-1]).to(tokens)
        tokens = torch.cat([tokens, self.cls_token.to(tokens).expand(len(tokens), -1, -1)], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        logits: Tensor = self.cls(tokens[:, -1])
        return logits


def _sizes(context: ContextInfo) -> dict[str, int]:
    if context.kind not in KINDS:
        raise ModelError(
            f"The reference has no context encoder {context.kind!r}",
            f"options: {', '.join(sorted(KINDS))}",
        )
    unit = HEAD_DIM if context.kind == "hyper" else 4
    if context.dim % unit:
        raise ModelError(
            f"{context.kind} tokens of size {context.dim} cannot be used",
            f"their size is a multiple of {unit}",
        )
    options: Mapping[str, Any] = context.options
    wanted = KINDS[context.kind]
    good = set(options) == set(wanted) and all(
        type(value) is int and 1 <= value <= 65536 for value in options.values()
    )
    if not good or math.prod(options.values()) > 2**40:
        raise ModelError(
            f"The sizes of a {context.kind} context cannot be {dict(options)}",
            f"they are: {', '.join(wanted)}",
        )
    return {name: options[name] for name in wanted}
