"""Score maps with known content."""

from __future__ import annotations

from typing import Any

import numpy as np

from xt_backend.keys import RegionStatus
from xt_backend.slides import Lattice
from xt_backend.store import ScoreMap

CLASSES = ("normal", "reactive", "tumour")
COLORS = ("#0072B2", "#E69F00", "#CC0033")


def score_map(
    *,
    bounds_px: tuple[int, int, int, int] = (0, 0, 1000, 700),
    slide_mpp: tuple[float, float] = (0.5, 0.5),
    region_px: int = 100,
    stride_px: int | None = None,
    name: str = "slide.svs",
    **changes: Any,
) -> ScoreMap:
    """All cells of the lattice but the last are selected; 3 are unreadable, 4 and 5 not done."""
    lattice = Lattice.for_bounds(bounds_px, slide_mpp, 0.5, region_px, stride_px)
    cells = lattice.all_cells()[:-1]
    count = len(cells)
    status = np.full(count, RegionStatus.OK, np.uint8)
    status[3], status[4], status[5] = RegionStatus.READ_ERROR, *[RegionStatus.SKIPPED] * 2
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(count, 3)).astype(np.float32)
    alone = rng.normal(size=(count, 3)).astype(np.float32)
    for values in (logits, alone):
        values[3:6] = np.nan
    x, y, width, height = bounds_px
    fields: dict[str, Any] = {
        "slide_id": "slide",
        "slide_name": name,
        "width_px": x + width,
        "height_px": y + height,
        "bounds_px": bounds_px,
        "has_bounds": (x, y) != (0, 0),
        "slide_mpp": slide_mpp,
        "mpp_source": "openslide.mpp-x",
        "lattice": lattice,
        "classes": CLASSES,
        "colors": COLORS,
        "task": "region",
        "temperature": 1.0,
        "thresholds": {},
        "cells": cells,
        "status": status,
        "logits": logits,
        "region_only_logits": alone,
        "slide_logits": None,
        "partial": True,
        "model_name": "little",
        "model_sha256": "0" * 64,
    }
    return ScoreMap(**{**fields, **changes})
