"""Everything that leaves: tables, QuPath GeoJSON, pictures, run files; made from score maps."""

from __future__ import annotations

from xt_backend.outputs.command import roi_file, score_command
from xt_backend.outputs.features import (
    LAYOUTS,
    FeatureKind,
    FeatureTable,
    Layout,
    Level,
    When,
    get_layout,
    read_features_h5,
    write_features,
)
from xt_backend.outputs.frames import (
    points_frame,
    regions_columns,
    regions_frame,
    slide_values,
    slides_frame,
)
from xt_backend.outputs.geojson import write_geojson
from xt_backend.outputs.mask_tiff import (
    SlideMask,
    mask_canvas,
    read_mask,
    tissue_mask_px,
    write_mask,
)
from xt_backend.outputs.names import pseudonym_ids, safe_ids, without_folders
from xt_backend.outputs.overlay import overlay_image, write_overlay
from xt_backend.outputs.palette import rgb
from xt_backend.outputs.parquet import check_parquet, write_regions_parquet
from xt_backend.outputs.points import (
    point_kinds,
    read_points_csv,
    write_points_csv,
    write_points_geojson,
)
from xt_backend.outputs.predictions import (
    PREDICTION_FORMATS,
    PredictionFormat,
    PredictionOptions,
)
from xt_backend.outputs.regions_csv import write_regions_csv
from xt_backend.outputs.run_json import read_json, write_local_json, write_run_json
from xt_backend.outputs.slides_csv import (
    SlideRow,
    read_slides_csv,
    slides_csv_columns,
    write_slides_csv,
)
from xt_backend.outputs.text import visible

__all__ = [
    "LAYOUTS",
    "PREDICTION_FORMATS",
    "FeatureKind",
    "FeatureTable",
    "Layout",
    "Level",
    "PredictionFormat",
    "PredictionOptions",
    "SlideMask",
    "SlideRow",
    "When",
    "check_parquet",
    "get_layout",
    "mask_canvas",
    "overlay_image",
    "point_kinds",
    "points_frame",
    "pseudonym_ids",
    "read_features_h5",
    "read_json",
    "read_mask",
    "read_points_csv",
    "read_slides_csv",
    "regions_columns",
    "regions_frame",
    "rgb",
    "roi_file",
    "safe_ids",
    "score_command",
    "slide_values",
    "slides_csv_columns",
    "slides_frame",
    "tissue_mask_px",
    "visible",
    "without_folders",
    "write_features",
    "write_geojson",
    "write_local_json",
    "write_mask",
    "write_overlay",
    "write_points_csv",
    "write_points_geojson",
    "write_regions_csv",
    "write_regions_parquet",
    "write_run_json",
    "write_slides_csv",
]
