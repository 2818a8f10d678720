"""Features of slides with made-up values."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.score_maps import make_score_map
from xt_backend.outputs import FeatureTable

DIM = 6


def make_feature_table(**changes: Any) -> FeatureTable:
    """The regions of `make_score_map`: one not read, one skipped, one with what is no number."""
    score_map = changes.pop("score_map", None)
    if score_map is None:  # an empty one is false
        score_map = make_score_map()
    n = len(score_map)
    features = np.random.default_rng(3).normal(size=(n, 4, DIM)).astype(np.float16)
    if n > 4:
        features[[1, 2]] = 0
        features[4, 0, 0] = np.nan
    values: dict[str, Any] = {
        "slide_id": score_map.slide_id,
        "size_px": (score_map.width_px, score_map.height_px),
        "lattice": score_map.lattice,
        "cells": score_map.cells,
        "status": score_map.status,
        "features": features,
        "numerics": {"encoder": "hf-hub:lab/vit.v1", "weights_sha256": "cd" * 32},
        "encoder": "hf-hub:lab/vit.v1",
        "tissue": np.linspace(0, 1, n, dtype=np.float32),
    }
    return FeatureTable(**{**values, **changes})
