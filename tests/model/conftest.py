"""A model so small that everything but real backbones can be tested in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xt_backend.model import (
    REGION_ENCODERS,
    XT,
    ClassInfo,
    ContextInfo,
    ModelCard,
    ReduceInfo,
    build_region_encoder,
)

TOY = "toy_patches"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Everything here is small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class ToyBackbone(nn.Module):
    """8 px patches, linearly embedded."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.patch(images))


@pytest.fixture(scope="session")
def toy() -> str:
    """Name of the registered toy backbone."""
    if TOY not in REGION_ENCODERS:

        @REGION_ENCODERS.register(TOY)
        def build(*, input_px: int, dim: int = 12) -> nn.Module:
            return ToyBackbone(dim)

    return TOY


@pytest.fixture
def make_xt(toy: str) -> Callable[..., XT]:
    """Builds a model; keyword arguments replace fields of its card."""

    def make(k: int = 1, kind: str = "attention", layers: int = 2, **fields: Any) -> XT:
        options = fields.pop("options", {})
        seed = fields.pop("seed", 3)
        encoder = build_region_encoder(
            toy, region_px=32, input_px=16, tokens_per_region=k, weights="random"
        )
        card = ModelCard(
            **{
                "name": "toy",
                "classes": (
                    ClassInfo(name="normal", color="#00ff00"),
                    ClassInfo(name="tumour", color="#ff0000"),
                    ClassInfo(name="stroma", color="#0000ff"),
                ),
                "model_mpp": 0.5,
                "region_px": 32,
                "input_px": 16,
                "tokens_per_region": k,
                "region_encoder": encoder.info,
                "reduce": ReduceInfo(components=6),
                "context": ContextInfo(kind=kind, dim=16, layers=layers, options=options),
                "mean": tuple(encoder.mean.flatten().tolist()),
                "std": tuple(encoder.std.flatten().tolist()),
                **fields,
            }
        )
        return XT(card, encoder, generator=torch.Generator().manual_seed(seed)).eval()

    return make


@pytest.fixture
def field() -> Callable[..., tuple[Tensor, Tensor]]:
    """Features (N, kk, 12) and places (N, 2) of a seeded field, in raster order."""

    def make(rows: int = 4, cols: int = 5, k: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(rows * cols, k * k, 12, generator=generator)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
        places = torch.stack([x, y], -1).reshape(-1, 2).double() * 16.0 + 8.0
        return features, places

    return make
