"""Transformer-XL (Dai et al., ACL 2019) with relative positions and memory, normalised before."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from xt_backend.errors import ModelError, UsageError
from xt_backend.model.reference.state import load_exactly, parameter, without_prefix

__all__ = ["TransformerXL", "transformer_xl"]

_LONGEST_WAVE = 10_000.0


class _Distances(nn.Module):
    """Sines and cosines of distances along the sequence."""

    inv_freq: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        waves = torch.arange(0, dim, 2) / dim
        self.register_buffer("inv_freq", _LONGEST_WAVE**-waves)

    def forward(self, distances: Tensor) -> Tensor:
        """(K,) to (K, dim)."""
        phase = distances[:, None] * self.inv_freq
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class _Attention(nn.Module):
    """Causal attention to memory and segment; scores depend on content and on distance."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.qkv_net = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.r_net = nn.Linear(dim, heads * head_dim, bias=False)
        self.o_net = nn.Linear(heads * head_dim, dim, bias=False)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, memory: Tensor, waves: Tensor, content: Tensor, place: Tensor
    ) -> Tensor:
        """Tokens (Q, B, dim) and memory (M, B, dim) to (Q, B, dim).

        Args:
            tokens: The segment.
            memory: What this layer saw of earlier segments.
            waves: (M + Q, dim), distance m + q - 1 first, distance 0 last.
            content: (heads, head_dim) added to queries for the content's part of the score.
            place: The same for the distance's part.
        """
        q, m = len(tokens), len(memory)
        seen = self.layer_norm(torch.cat([memory, tokens]))
        shape = (m + q, tokens.shape[1], self.heads, self.head_dim)
        queries, keys, values = (part.view(shape) for part in self.qkv_net(seen).chunk(3, dim=-1))
        queries = queries[m:]
        far = self.r_net(waves).view(m + q, self.heads, self.head_dim)
        by_content = torch.einsum("qbhd,kbhd->bhqk", queries + content, keys)
        by_column = torch.einsum("qbhd,khd->bhqk", queries + place, far)
        # Key k lies m + i - k before query i; that distance stands in column k + q - 1 - i.
        key = torch.arange(m + q, device=tokens.device)
        query = torch.arange(q, device=tokens.device)[:, None]
        column = (key + (q - 1) - query).clamp(max=m + q - 1)
        by_distance = by_column.gather(3, column.expand_as(by_column))
        scores = (by_content + by_distance) / self.head_dim**0.5
        scores = scores.masked_fill(key > query + m, -torch.inf)
        mixed = torch.einsum("bhqk,kbhd->qbhd", scores.softmax(dim=-1), values)
        out: Tensor = tokens + self.o_net(mixed.flatten(2))
        return out


class _FeedForward(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.CoreNet = nn.Sequential(
            nn.Linear(dim, inner),
            nn.ReLU(),
            nn.Dropout(0.0),
            nn.Linear(inner, dim),
            nn.Dropout(0.0),
        )
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = tokens + self.CoreNet(self.layer_norm(tokens))
        return out


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, head_dim: int, inner: int) -> None:
        super().__init__()
        self.dec_attn = _Attention(dim, heads, head_dim)
        self.pos_ff = _FeedForward(dim, inner)


class TransformerXL(nn.Module):
    """Runs over segments of a sequence, each of which sees the memory of the one before.

    Args:
        in_dim: Size of the input.
        dim: Size of the tokens.
        layers: Number of layers.
        heads: Heads of the attention.
        head_dim: Size of a head.
        inner: Size of the hidden layer of the feed-forward part.
        memory: Length of the segments and of the memory.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        inner: int,
        memory: int,
    ) -> None:
        super().__init__()
        if memory < 1:
            raise ModelError(f"A memory of {memory} tokens is too short", "use at least 1")
        self.memory = memory
        self.word_emb = nn.Linear(in_dim, dim)
        self.pos_emb = _Distances(dim)
        self.r_w_bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.r_r_bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.layers = nn.ModuleList([_Layer(dim, heads, head_dim, inner) for _ in range(layers)])

    def forward(self, sequence: Tensor) -> Tensor:
        """(length, B, in_dim) to (length, B, dim), the memory empty at the start.

        Gradients do not flow into the memory, as in the paper.

        Raises:
            UsageError: Another shape.
        """
        in_dim = self.word_emb.in_features
        if sequence.ndim != 3 or sequence.shape[2] != in_dim:
            raise UsageError(
                f"The sequence must be (length, B, {in_dim}), not {tuple(sequence.shape)}"
            )
        tokens: Tensor = self.word_emb(sequence)
        memories = [tokens[:0] for _ in self.layers]
        outs = []
        for segment in torch.split(tokens, self.memory):
            hidden = segment
            length = len(memories[0]) + len(segment) if memories else 0
            distances = torch.arange(length - 1, -1, -1, device=tokens.device, dtype=tokens.dtype)
            waves = self.pos_emb(distances)
            for index, layer in enumerate(self.layers):
                memory = memories[index]
                memories[index] = torch.cat([memory, hidden])[-self.memory :].detach()
                hidden = layer.get_submodule("dec_attn")(
                    hidden, memory, waves, self.r_w_bias, self.r_r_bias
                )
                hidden = layer.get_submodule("pos_ff")(hidden)
            outs.append(hidden)
        return torch.cat(outs)


def transformer_xl(state_dict: Mapping[str, Tensor], memory: int) -> TransformerXL:
    """Build a Transformer-XL of the sizes that its weights have.

    Args:
        state_dict: ``word_emb``, ``pos_emb.inv_freq``, ``r_w_bias``, ``r_r_bias`` and ``layers``
            as the reference names them; a prefix that all share is ignored.
        memory: Length of the segments and of the memory, tokens.

    Returns:
        In eval mode; forward (length, B, in_dim) to (length, B, dim).

    Raises:
        ModelError: Weights are missing, left over or of another shape.
    """
    state = without_prefix(state_dict)
    what = "Transformer-XL"
    dim, in_dim = parameter(state, "word_emb.weight", what, 2).shape
    heads, head_dim = parameter(state, "r_w_bias", what, 2).shape
    inner = parameter(state, "layers.0.pos_ff.CoreNet.0.weight", what, 2).shape[0]
    numbers = {found[1] for name in state if (found := re.match(r"layers\.(\d+)\.", name))}
    model = TransformerXL(
        in_dim,
        dim,
        layers=len(numbers),
        heads=heads,
        head_dim=head_dim,
        inner=inner,
        memory=memory,
    )
    load_exactly(model, state, f"a {what}")
    return model.eval()
