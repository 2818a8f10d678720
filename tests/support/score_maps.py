"""Score maps with made-up results."""

from __future__ import annotations

from typing import Any

import numpy as np

from xt_backend.keys import RegionStatus
from xt_backend.slides.lattice import Lattice
from xt_backend.store import ScoreMap

__all__ = ["CLASSES", "COLORS", "make_score_map", "patchy_map"]

CLASSES = ("Stroma", "Tumour", "Fat")
COLORS = ("#0072b2", "#d55e00", "#009e73")


def make_score_map(**changes: Any) -> ScoreMap:
    """12 of 20 regions of a slide with bounds: one each read_error, skipped and NaN, some edge."""
    lattice = changes.pop("lattice", None) or Lattice.for_bounds(
        (1000, 2000, 2500, 2000), (0.25, 0.25), 0.5, 256
    )
    cells = changes.pop("cells", None)
    if cells is None:
        cells = lattice.all_cells()[::5] if lattice.n_cols * lattice.n_rows > 40 else None
    if cells is None:
        cells = lattice.all_cells()[3:15]
    n, n_classes = len(cells), len(changes.get("classes", CLASSES))
    rng = np.random.default_rng(7)
    status = np.where(lattice.is_edge(cells), RegionStatus.EDGE, RegionStatus.OK).astype(np.uint8)
    logits = rng.normal(0, 3, (n, n_classes)).astype(np.float32)
    if n > 3:
        status[1], status[2] = RegionStatus.READ_ERROR, RegionStatus.SKIPPED
        logits[3, 0] = np.nan
    values: dict[str, Any] = {
        "slide_id": "block-7",
        "slide_name": "block-7.svs",
        "width_px": 5000,
        "height_px": 6000,
        "bounds_px": (*lattice.origin_px, *lattice.extent_px),
        "has_bounds": True,
        "slide_mpp": lattice.slide_mpp,
        "mpp_source": "openslide.mpp-x",
        "lattice": lattice,
        "classes": CLASSES,
        "colors": COLORS,
        "task": "region",
        "temperature": 1.5,
        "thresholds": {"Tumour": 0.3},
        "cells": cells,
        "status": status,
        "logits": logits,
        "region_only_logits": logits / 2,
        "slide_logits": None,
        "partial": False,
        "model_name": "tiny",
        "model_sha256": "ab" * 32,
        "run_meta": {"device": "cpu", "seconds": [1.5, 2]},
    }
    return ScoreMap(**{**values, **changes})


def patchy_map(lattice: Lattice, n: int | None = None, **changes: Any) -> ScoreMap:
    """The first `n` regions, or all, in smooth patches of three classes with some noise.

    Args:
        lattice: Of the slide.
        n: How many.
        **changes: Fields that are to be others.
    """
    cells = lattice.all_cells()[:n]
    rng = np.random.default_rng(0)
    waves = [np.sin(cells[:, 0] / 23 + k) + np.cos(cells[:, 1] / 31 - k) for k in range(3)]
    logits = 3 * np.stack(waves, axis=1) + rng.normal(0, 0.3, (len(cells), 3))
    width_px, height_px = lattice.extent_px
    values: dict[str, Any] = {
        "slide_id": "large",
        "slide_name": "large.svs",
        "width_px": int(width_px),
        "height_px": int(height_px),
        "has_bounds": False,
        "temperature": 1.0,
        "thresholds": {},
        "status": np.full(len(cells), RegionStatus.OK, np.uint8),
        "logits": logits.astype(np.float32),
        "region_only_logits": logits.astype(np.float32),
        "run_meta": {},
    }
    return make_score_map(lattice=lattice, cells=cells, **{**values, **changes})
