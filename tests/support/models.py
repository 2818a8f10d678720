"""A small model with random weights: quick, real, and the same every time."""

from __future__ import annotations

from pathlib import Path

import torch

from xt_backend.model import (
    XT,
    ClassInfo,
    ContextInfo,
    ModelCard,
    ReduceInfo,
    build_region_encoder,
    save_model,
)

CLASSES = ("normal", "tumour")


def write_tiny_model(
    path: Path,
    *,
    mpp: float = 1.0,
    region_px: int = 64,
    context: str = "attention",
    classes: tuple[str, str] = CLASSES,
) -> Path:
    """A two-class region model with an efficientnet_lite0 of random weights."""
    encoder = build_region_encoder("tf_efficientnet_lite0", region_px=region_px, weights="random")
    card = ModelCard(
        name=path.stem,
        classes=(
            ClassInfo(name=classes[0], color="#0072b2"),
            ClassInfo(name=classes[1], color="#d55e00"),
        ),
        model_mpp=mpp,
        region_px=region_px,
        input_px=region_px,
        region_encoder=encoder.info,
        reduce=ReduceInfo(components=8),
        context=ContextInfo(kind=context, dim=16, layers=1),
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
    )
    model = XT(card, encoder, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    side = region_px
    images = torch.randint(0, 256, (24, 3, side, side), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        model.reduce.fit_whitening(model.region_encoder(images))
    save_model(model, path)
    return path
