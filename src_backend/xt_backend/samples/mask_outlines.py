"""Masks as annotations: which outline the pixels of each class have."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image
from shapely.geometry.base import BaseGeometry

from xt_backend.errors import AnnotationError
from xt_backend.keys import DEFAULT_COLORS, PRODUCT
from xt_backend.samples.qupath import annotation, collection_bytes

__all__ = ["mask_geojson", "outline_of", "read_mask"]

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCT}/mask")

_SHAPE_TOLERANCE = 0.01
"""By which share a smaller mask may differ in its proportions, from rounding."""

Values = npt.NDArray[np.integer]


def read_mask(path: Path) -> Values:
    """The pixel values of a grey or paletted picture, (h, w); of a palette the indices.

    Raises:
        AnnotationError: No such picture.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, Image.DecompressionBombError) as error:
        raise AnnotationError(
            f"{path.name} cannot be read as a mask: {error}", "Give grey PNG files"
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise AnnotationError(
            f"{path.name} is a picture in mode {picture.mode}, no mask of class numbers",
            "Give grey or paletted PNG files, whose pixel values are the classes",
        )
    return values.astype(np.int64)


def outline_of(inside: npt.NDArray[np.bool_]) -> BaseGeometry:
    """The outline of (h, w) pixels, along their borders: its area is their number."""
    steps = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, left = np.nonzero(steps == 1)
    right = np.nonzero(steps == -1)[1]
    # A union leaves a corner at every row; without tolerance only those on straight lines go.
    return shapely.union_all(shapely.box(left, rows, right, rows + 1)).simplify(0)


def mask_geojson(
    values: Values, classes: Mapping[int, str], size_px: tuple[int, int], name: str
) -> bytes:
    """A mask as annotations that QuPath and ``train`` read.

    Args:
        values: (h, w) of the mask; it may be smaller than the picture.
        classes: Class by pixel value; pixels whose class is "" are annotated with none.
        size_px: (width, height) of the picture.
        name: Of the mask's file, for messages.

    Returns:
        GeoJSON with one annotation a class, in px of the picture.

    Raises:
        AnnotationError: Values without a class, or other proportions than the picture's.
    """
    height, width = values.shape
    scale_x, scale_y = size_px[0] / width, size_px[1] / height
    if abs(scale_x / scale_y - 1.0) > _SHAPE_TOLERANCE:
        raise AnnotationError(
            f"{name} has {width} x {height} px, its picture {size_px[0]} x {size_px[1]}",
            "A mask must show the same part as its picture",
        )
    if unknown := sorted(set(np.unique(values).tolist()) - set(classes)):
        shown = ", ".join(str(value) for value in unknown[:10])
        raise AnnotationError(
            f"{name} holds values that --classes does not name: {shown}",
            f"Name them ({unknown[0]}=tumour), or leave the name away ({unknown[0]}=) where "
            "nothing is known. Masks must not be stored as JPEG, which changes values",
        )
    features = []
    names = list(dict.fromkeys(label for label in classes.values() if label))
    for label, color in zip(names, itertools.cycle(DEFAULT_COLORS), strict=False):
        wanted = [value for value, other in classes.items() if other == label]
        inside = np.isin(values, wanted)
        if not inside.any():
            continue
        outline = shapely.transform(outline_of(inside), lambda xy: xy * (scale_x, scale_y))
        number = uuid.uuid5(_NAMESPACE, f"{name}/{label}")
        geometry = json.loads(shapely.to_geojson(outline))
        features.append(annotation(number, geometry, label, color))
    return collection_bytes(features)
