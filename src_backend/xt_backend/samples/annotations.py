"""The truth of a sample slide: QuPath GeoJSON and a mask."""

from __future__ import annotations

import json
import uuid
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin
from shapely.geometry import MultiPolygon, mapping
from shapely.geometry.base import BaseGeometry

from xt_backend.keys import PRODUCT
from xt_backend.samples.classes import (
    CLASSES,
    MASK_GLASS,
    NEST,
    NORMAL,
    OTHER,
    REACTIVE,
    SampleClass,
)
from xt_backend.samples.layout import Layout
from xt_backend.samples.outlines import fill_outline
from xt_backend.samples.qupath import annotation, collection_bytes

__all__ = [
    "MASK_DOWNSAMPLE",
    "annotation_features",
    "geojson_bytes",
    "mask_png_bytes",
    "truth_mask",
]

MASK_DOWNSAMPLE = 8
"""Level-0 px per pixel of the truth mask."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCT}/sample")


def _classed(layout: Layout) -> list[tuple[SampleClass, str, BaseGeometry]]:
    """All outlines in the order of the file: later ones lie over earlier ones."""
    lobules = MultiPolygon([lobule.outline for lobule in layout.lobules])
    rows: list[tuple[SampleClass, str, BaseGeometry]] = [
        (OTHER, "Between the lobules", layout.tissue.difference(lobules))
    ]
    for number, lobule in enumerate(layout.lobules, 1):
        kind = REACTIVE if lobule.has_nest else NORMAL
        rows.append((kind, f"Lobule {number}", lobule.outline))
    for number, nest in enumerate(layout.nests, 1):
        rows.append((NEST, f"Nest {number}", nest))
    return rows


def annotation_features(layout: Layout, name: str) -> list[dict[str, Any]]:
    """GeoJSON features that QuPath reads, in level-0 px.

    Args:
        layout: The slide's outlines.
        name: The slide's name; the features' ids depend on it.
    """
    return [
        annotation(
            uuid.uuid5(_NAMESPACE, f"{name}/{label}"),
            _rounded(geometry),
            kind.name,
            kind.color,
            name=label,
        )
        for kind, label, geometry in _classed(layout)
    ]


def _rounded(geometry: BaseGeometry) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return round(value, 2) if isinstance(value, float) else [plain(v) for v in value]

    shape = mapping(geometry)
    return {"type": shape["type"], "coordinates": plain(shape["coordinates"])}


def geojson_bytes(layout: Layout, name: str) -> bytes:
    """The annotation file of one slide."""
    return collection_bytes(annotation_features(layout, name))


def truth_mask(layout: Layout) -> npt.NDArray[np.uint8]:
    """Class of every 8 x 8 px of the slide.

    Returns:
        (ceil(height / 8), ceil(width / 8)) uint8: `SampleClass.mask_value` at the centre of
        the 8 x 8 px, 0 on glass.
    """
    shape = (-(-layout.height_px // MASK_DOWNSAMPLE), -(-layout.width_px // MASK_DOWNSAMPLE))
    mask = np.full(shape, MASK_GLASS, np.uint8)
    fill_outline(mask, layout.tissue, OTHER.mask_value, MASK_DOWNSAMPLE)
    for lobule in layout.lobules:
        kind = REACTIVE if lobule.has_nest else NORMAL
        fill_outline(mask, lobule.outline, kind.mask_value, MASK_DOWNSAMPLE)
    for nest in layout.nests:
        fill_outline(mask, nest, NEST.mask_value, MASK_DOWNSAMPLE)
    return mask


def mask_png_bytes(mask: npt.NDArray[np.uint8]) -> bytes:
    """The mask as a paletted PNG whose text chunk `classes` lists value, name and colour."""
    image = Image.fromarray(mask).convert("L")
    image = image.copy()
    image.putpalette([255, 255, 255, *(part for kind in CLASSES for part in kind.rgb)])
    text = PngImagePlugin.PngInfo()
    listed = [{"value": MASK_GLASS, "name": "", "color": "#ffffff"}]
    listed += [{"value": k.mask_value, "name": k.name, "color": k.color} for k in CLASSES]
    text.add_text("classes", json.dumps(listed))
    text.add_text("downsample", str(MASK_DOWNSAMPLE))
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=text, optimize=False)
    return buffer.getvalue()
