"""The models: region encoders, context encoders, heads, and the files they live in.

Names are loaded when first used, so that cards and lists of models need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xt_backend import lazy

if TYPE_CHECKING:
    from xt_backend.model.backbone import REGION_ENCODERS, list_region_encoders
    from xt_backend.model.card import (
        ClassInfo,
        ContextInfo,
        DenseHeadInfo,
        DetectionInfo,
        EncoderInfo,
        FeatureStats,
        LabelRule,
        ModelCard,
        ReduceInfo,
        SlideHeadInfo,
        StainInfo,
    )
    from xt_backend.model.context import CONTEXTS, build_context, list_contexts
    from xt_backend.model.dense_head import DenseHead
    from xt_backend.model.files import load_model, save_model
    from xt_backend.model.header import file_sha256, read_card
    from xt_backend.model.library import ModelEntry, find_model, list_models
    from xt_backend.model.prediction import Prediction
    from xt_backend.model.reference import ReferenceXT
    from xt_backend.model.region import RegionEncoder
    from xt_backend.model.region_encoders import build_region_encoder
    from xt_backend.model.state import state_sha256
    from xt_backend.model.xt import XT

__all__ = [
    "CONTEXTS",
    "REGION_ENCODERS",
    "XT",
    "ClassInfo",
    "ContextInfo",
    "DenseHead",
    "DenseHeadInfo",
    "DetectionInfo",
    "EncoderInfo",
    "FeatureStats",
    "LabelRule",
    "ModelCard",
    "ModelEntry",
    "Prediction",
    "ReduceInfo",
    "ReferenceXT",
    "RegionEncoder",
    "SlideHeadInfo",
    "StainInfo",
    "build_context",
    "build_region_encoder",
    "file_sha256",
    "find_model",
    "list_contexts",
    "list_models",
    "list_region_encoders",
    "load_model",
    "read_card",
    "save_model",
    "state_sha256",
]

_HOMES = {
    "backbone": ("REGION_ENCODERS", "list_region_encoders"),
    "card": (
        "ClassInfo",
        "ContextInfo",
        "DenseHeadInfo",
        "DetectionInfo",
        "EncoderInfo",
        "FeatureStats",
        "LabelRule",
        "ModelCard",
        "ReduceInfo",
        "SlideHeadInfo",
        "StainInfo",
    ),
    "context": ("CONTEXTS", "build_context", "list_contexts"),
    "dense_head": ("DenseHead",),
    "files": ("load_model", "save_model"),
    "header": ("file_sha256", "read_card"),
    "library": ("ModelEntry", "find_model", "list_models"),
    "region": ("RegionEncoder",),
    "region_encoders": ("build_region_encoder",),
    "state": ("state_sha256",),
    "prediction": ("Prediction",),
    "reference": ("ReferenceXT",),
    "xt": ("XT",),
}
_load = lazy.attributes(__name__, {name: home for home, names in _HOMES.items() for name in names})


def __getattr__(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}") if name == "reference" else _load(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
