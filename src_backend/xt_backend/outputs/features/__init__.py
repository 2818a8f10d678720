"""Features of regions and slides, in the layouts of the tools that read them."""

from __future__ import annotations

from xt_backend.outputs.features.layout import Layout
from xt_backend.outputs.features.registry import LAYOUTS, get_layout, write_features
from xt_backend.outputs.features.table import FeatureKind, FeatureTable, Level, When
from xt_backend.outputs.features.xt import read_features_h5

__all__ = [
    "LAYOUTS",
    "FeatureKind",
    "FeatureTable",
    "Layout",
    "Level",
    "When",
    "get_layout",
    "read_features_h5",
    "write_features",
]
