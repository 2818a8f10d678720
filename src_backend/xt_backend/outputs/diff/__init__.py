"""Two results of one slide, or of one piece of tissue, side by side."""

from __future__ import annotations

from xt_backend.outputs.diff.agreement import Agreement, correlation
from xt_backend.outputs.diff.comparison import SlideDiff, compare_maps
from xt_backend.outputs.diff.matching import Matching, match_regions
from xt_backend.outputs.diff.picture import write_diff_picture
from xt_backend.outputs.diff.pixels_and_points import (
    PointsDiff,
    compare_masks,
    compare_points,
)
from xt_backend.outputs.diff.tables import write_regions_diff, write_slides_diff

__all__ = [
    "Agreement",
    "Matching",
    "PointsDiff",
    "SlideDiff",
    "compare_maps",
    "compare_masks",
    "compare_points",
    "correlation",
    "match_regions",
    "write_diff_picture",
    "write_regions_diff",
    "write_slides_diff",
]
