"""Annotations as QuPath writes them."""

from __future__ import annotations

import json
from pathlib import Path

Box = tuple[int, int, int, int]


def box_geometry(box: Box) -> dict[str, object]:
    """GeoJSON polygon of (x0, y0, x1, y1), px."""
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {"type": "Polygon", "coordinates": [ring]}


def write_roi(path: Path, box: Box) -> Path:
    """A region of interest, px in QuPath's frame."""
    path.write_text(json.dumps(box_geometry(box)))
    return path


def write_annotations(path: Path, boxes: list[tuple[str, Box]]) -> Path:
    """Annotations of (class, box)."""
    features = [
        {
            "type": "Feature",
            "geometry": box_geometry(box),
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name, box in boxes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
