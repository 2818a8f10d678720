"""Everything that leaves: tables, QuPath GeoJSON, pictures, run files; made from score maps."""

from __future__ import annotations

from xt_backend.outputs.features_h5 import FeatureTable, write_features_h5
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
    "FeatureTable",
    "SlideMask",
    "SlideRow",
    "check_parquet",
    "mask_canvas",
    "overlay_image",
    "point_kinds",
    "points_frame",
    "pseudonym_ids",
    "read_json",
    "read_mask",
    "read_points_csv",
    "read_slides_csv",
    "regions_columns",
    "regions_frame",
    "rgb",
    "safe_ids",
    "slide_values",
    "slides_csv_columns",
    "slides_frame",
    "tissue_mask_px",
    "visible",
    "without_folders",
    "write_features_h5",
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
