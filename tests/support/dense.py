"""Dense and detection models that have learnt to see pink and dark dots, in about a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from support.slides import TISSUE, tissue_image
from xt_backend.model import (
    REGION_ENCODERS,
    XT,
    ClassInfo,
    ContextInfo,
    DenseHeadInfo,
    DetectionInfo,
    ModelCard,
    ReduceInfo,
    build_region_encoder,
    save_model,
)

BACKBONE = "dense_test_patches"
REGION_PX = 64
DOT = (40, 30, 90)
DOT_RADIUS_PX = 7
"""At level 0 of a slide of 0.5 um/px: 3.5 um."""


class _Patches(nn.Module):
    """4 px patches, linearly embedded: what a place shows depends on that place alone."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.patch(images))


def register() -> str:
    """The name of the backbone, known from now on."""
    if BACKBONE not in REGION_ENCODERS:

        @REGION_ENCODERS.register(BACKBONE)
        def build(*, input_px: int) -> nn.Module:
            return _Patches()

    return BACKBONE


def write_dense_model(
    path: Path, task: str = "dense", *, context: str = "attention", seed: int = 2
) -> Path:
    """A model at 1 um/px: classes glass and tissue, or the kinds "dot" and "nothing like it"."""
    names = ("glass", "tissue") if task == "dense" else ("none", "dot", "other")
    encoder = build_region_encoder(
        register(), region_px=REGION_PX, input_px=REGION_PX // 2, weights="random"
    )
    card = ModelCard(
        name=path.stem,
        task=task,
        classes=tuple(
            ClassInfo(name=name, color=color)
            for name, color in zip(names, ("#0072b2", "#d55e00", "#009e73"), strict=False)
        ),
        model_mpp=1.0,
        region_px=REGION_PX,
        input_px=REGION_PX // 2,
        region_encoder=encoder.info,
        reduce=ReduceInfo(components=4),
        context=ContextInfo(kind=context, dim=8, layers=1),
        dense_head=DenseHeadInfo(width=16),
        detection=DetectionInfo(
            peak_radius_um=7.0, thresholds={} if task == "dense" else {"dot": 0.8}
        ),
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
    )
    model = XT(card, encoder, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # everything here is small: threads would only wait for each other
    with torch.no_grad():
        model.reduce.fit_whitening(model.region_encoder(_examples(rng, task, 24)[0]))
    _train(model, task, rng)
    torch.set_num_threads(threads)
    save_model(model.eval(), path)
    return path


def _train(model: XT, task: str, rng: np.random.Generator) -> None:
    head = model.dense_head
    assert head is not None
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(160):
        images, truth = _examples(rng, task, 16)
        with torch.no_grad():
            pyramid = model.region_encoder.pyramid(images)
        tokens = torch.zeros(16, 8)
        tokens[:8] = torch.from_numpy(rng.normal(size=(8, 8)).astype(np.float32))
        logits = head(pyramid, tokens)
        if task == "dense":
            loss = cross_entropy(logits, truth)
        else:
            both = torch.stack([truth, torch.zeros_like(truth)], dim=1)
            loss = binary_cross_entropy_with_logits(
                logits, both, pos_weight=torch.tensor(5.0).view(1, 1, 1)
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _examples(rng: np.random.Generator, task: str, n: int) -> tuple[Tensor, Tensor]:
    """(n, 3, R, R) uint8 and (n, R/4, R/4): class index, or the heat of the dots."""
    images, truths = [], []
    side, small = REGION_PX, REGION_PX // 4
    for _ in range(n):
        if task == "dense":
            x, y = rng.integers(-side, side, 2)
            box = (max(0, int(x)), max(0, int(y)), min(side, int(x) + side), min(side, y + side))
            image = tissue_image(side, side, (box,) if rng.random() < 0.8 else ())
            tissue = np.abs(image.astype(int) - 242).max(axis=2) > 8
            truth = tissue.reshape(small, 4, small, 4).mean(axis=(1, 3)) > 0.5
            truths.append(torch.from_numpy(truth.astype(np.int64)))
        else:
            dots = rng.uniform(-4, side + 4, (rng.integers(0, 5), 2))
            image = draw_dots(tissue_image(side, side, ((0, 0, side, side),)), dots, 3.5)
            middles = (np.arange(small) + 0.5) * 4
            heat = np.zeros((small, small), np.float32)
            for x, y in dots:
                gap = (middles[None, :] - x) ** 2 + (middles[:, None] - y) ** 2
                heat = np.maximum(heat, np.exp(-gap / (2 * 3.0**2)))
            truths.append(torch.from_numpy(heat.astype(np.float32)))
        images.append(torch.from_numpy(image).permute(2, 0, 1))
    return torch.stack(images), torch.stack(truths)


def draw_dots(image: np.ndarray[Any, Any], dots: Any, radius_px: float) -> np.ndarray[Any, Any]:
    """The picture with dark discs around (x, y), px from its corner."""
    drawn = image.copy()
    y_px, x_px = (np.indices(image.shape[:2]) + 0.5).astype(float)
    for x, y in dots:
        drawn[(x_px - x) ** 2 + (y_px - y) ** 2 <= radius_px**2] = DOT
    return drawn


__all__ = ["DOT_RADIUS_PX", "REGION_PX", "TISSUE", "draw_dots", "register", "write_dense_model"]
