"""The score map of a run before anything is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xt_backend.keys import Doubt, FeaturesMeta, RegionStatus, RunH5, RunMeta
from xt_backend.model import ModelCard
from xt_backend.slides.quality import MEASURES
from xt_backend.store import ScoreMap

from .device import Device
from .encoder import BatchEncoder
from .extraction import store_numerics
from .preparation import Prepared
from .spec import RunSpec

__all__ = ["blank_map"]


def blank_map(
    spec: RunSpec, card: ModelCard, prepared: Prepared, device: Device, encoder: BatchEncoder
) -> ScoreMap:
    """All rows ``skipped``, all logits NaN.

    Args:
        spec: What was asked for.
        card: Of the model.
        prepared: The slide with its regions.
        device: Where the model runs.
        encoder: What encodes the regions.
    """
    info = prepared.slide.info
    n, n_classes = len(prepared.cells), len(card.classes)
    return ScoreMap(
        slide_id=spec.slide_id or Path(info.name).stem,
        slide_name=spec.slide_name or info.name,
        width_px=info.width_px,
        height_px=info.height_px,
        bounds_px=info.bounds_px,
        has_bounds=info.has_bounds,
        slide_mpp=(prepared.mpp.x, prepared.mpp.y),
        mpp_source=prepared.mpp.source,
        lattice=prepared.lattice,
        classes=card.class_names,
        colors=tuple(item.color for item in card.classes),
        task=card.task,
        temperature=card.temperature,
        thresholds=dict(card.thresholds),
        cells=prepared.cells,
        status=np.full(n, RegionStatus.SKIPPED, np.uint8),
        logits=np.full((n, n_classes), np.nan, np.float32),
        region_only_logits=np.full((n, n_classes), np.nan, np.float32),
        slide_logits=None,
        partial=True,
        model_name=card.name,
        model_sha256=card.state_sha256,
        run_meta={
            RunMeta.CONTEXT: spec.context,
            "device": device.name,
            "device_reason": device.reason,
            "precision": device.precision,
            **encoder.told(),
            "tissue": prepared.tissue.kind,
            RunMeta.FEATURES: {
                FeaturesMeta.NUMERICS: store_numerics(prepared, encoder),
                FeaturesMeta.SHAPE: encoder.token_shape,
            },
            RunH5.META_SLIDE_IDENTITY: prepared.slide.identity(),
            RunMeta.NOTES: list(prepared.notes),
            RunMeta.WARNINGS: list(prepared.warnings),
        },
        tissue=prepared.tissue_shares(),
        quality=np.full(n, Doubt.NOT_MEASURED, np.uint8),
        quality_measures=np.full((n, len(MEASURES)), np.nan, np.float16),
    )
