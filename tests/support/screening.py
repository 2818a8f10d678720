"""A slide of two kinds of tissue, and a model that tells them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from support.models import write_tiny_model
from support.slides import tissue_image, write_tiff_slide
from xt_backend.model import load_model, save_model

SIDE = 30
"""Regions along each side of the slide."""
_PURPLE = np.array([-110, -80, -20], np.int16)


def write_two_tissues(path: Path, share: float = 0.5, glass: int = 0) -> Path:
    """30 x 30 regions of 64 px at 1 um/px, the right `share` of them purple.

    All of them are tissue, but for so many rows and columns of `glass` at each edge.
    """
    side, edge = SIDE * 64, glass * 64
    box = (edge, edge, side - edge, side - edge)
    image = tissue_image(side, side, (box,), seed=3).astype(np.int16)
    first = round(SIDE * (1 - share)) * 64
    image[edge : side - edge, first : side - edge] += _PURPLE
    return write_tiff_slide(path, image.clip(0, 255).astype(np.uint8), 1.0)


def write_telling_model(path: Path) -> Path:
    """Purple is a tumour to each region alone."""
    model = load_model(write_tiny_model(path))
    image = tissue_image(512, 512, ((0, 0, 512, 512),), seed=4).astype(np.int16)
    both = np.stack([image, image + _PURPLE]).clip(0, 255).astype(np.uint8)
    patches = both.reshape(2, 8, 64, 8, 64, 3).transpose(0, 1, 3, 5, 2, 4).reshape(128, 3, 64, 64)
    truth = torch.arange(128) // 64
    with torch.no_grad():
        features = model.region_encoder(torch.from_numpy(patches.copy())).float()
        model.reduce.fit_whitening(features)
        tokens = model.reduce(features)
    head = model.region_only_head
    steps = torch.optim.Adam(head.parameters(), 0.02)
    for _ in range(200):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(head(tokens), truth).backward()
        steps.step()
    save_model(model, path)
    return path
