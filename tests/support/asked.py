"""A finished run to ask about: a small model, made-up features in a real store, and its map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from xt_backend.engine.questions import About
from xt_backend.keys import FeaturesMeta, RegionStatus, RunH5, RunMeta
from xt_backend.model import (
    XT,
    ClassInfo,
    ContextInfo,
    ModelCard,
    ReduceInfo,
    build_region_encoder,
    save_model,
)
from xt_backend.slides import Lattice
from xt_backend.store import RegionStore, ScoreMap, StoreKey

from .score_maps import make_score_map

CLASSES = ("normal", "reactive", "nest")
SIDE = 9
"""Cells along a side of the lattice."""


def make_asked(
    folder: Path,
    context: str = "attention",
    *,
    layers: int = 2,
    tokens_per_region: int = 1,
    task: str = "region",
    n: int | None = None,
    **options: Any,
) -> About:
    """The result of a model with random weights on features of noise.

    Args:
        folder: Gets the model and the cache.
        context: Kind of the context encoder.
        layers: Of the context encoder.
        tokens_per_region: k.
        task: "region" or "slide".
        n: Cells that were selected; all when None. The second of them could not be read.
        options: Of the context encoder.
    """
    generator = torch.Generator().manual_seed(3)
    encoder = build_region_encoder(
        "test_resnet", region_px=64, weights="random", tokens_per_region=tokens_per_region
    )
    card = ModelCard(
        name=f"asked-{context}",
        task=task,
        classes=tuple(ClassInfo(name=name, color="#0072b2") for name in CLASSES),
        model_mpp=0.5,
        region_px=64,
        input_px=encoder.input_px,
        tokens_per_region=tokens_per_region,
        region_encoder=encoder.info,
        reduce=ReduceInfo(components=6),
        context=ContextInfo(kind=context, dim=16, layers=layers, options=options),
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
    )
    model = XT(card, encoder, generator=generator).eval()
    path = folder / "asked.safetensors"
    save_model(model, path)
    lattice = Lattice.for_bounds((0, 0, 64 * SIDE, 64 * SIDE), (0.5, 0.5), 0.5, 64)
    cells = lattice.all_cells()[:n]
    rng = np.random.default_rng(5)
    features = rng.normal(size=(len(cells), tokens_per_region**2, encoder.dim)).astype(np.float16)
    status = np.full(len(cells), RegionStatus.OK, np.uint8)
    status[1] = RegionStatus.READ_ERROR
    numerics = {"weights": "random", "input_px": 64}
    key = StoreKey("slide", {**lattice.to_dict(), "input_px": 64}, numerics)
    RegionStore.open(folder / "cache", key).append(cells, features, status)
    scored = status == RegionStatus.OK
    logits, alone = (np.full((len(cells), len(CLASSES)), np.nan, np.float32) for _ in range(2))
    with torch.inference_mode():
        tokens = model.reduce(torch.from_numpy(features).float())[torch.from_numpy(scored)]
        places = torch.from_numpy(lattice.centres_um(cells[scored]))
        found = model.predict_reduced(tokens, places)
    logits[scored], alone[scored] = found.logits.numpy(), found.region_only_logits.numpy()
    score_map: ScoreMap = make_score_map(
        lattice=lattice,
        cells=cells,
        classes=CLASSES,
        colors=("#0072b2", "#e69f00", "#cc0033"),
        thresholds={},
        temperature=1.0,
        task=task,
        slide_logits=None if found.slide_logits is None else found.slide_logits.numpy(),
        model_sha256=model.card.state_sha256,
        status=status,
        logits=logits,
        region_only_logits=alone,
        run_meta={
            RunMeta.FEATURES: {FeaturesMeta.NUMERICS: numerics},
            RunH5.META_SLIDE_IDENTITY: "slide",
        },
    )
    return About(score_map, str(path), folder / "cache", device="cpu")
