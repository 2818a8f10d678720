"""Annotated objects, such as cells or mitoses, from GeoJSON, as QuPath writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from xt_backend.errors import AnnotationError
from xt_backend.slides.shapes import (
    BadFeature,
    class_name_of,
    position_of,
    read_features,
    shape_of,
)

__all__ = ["Objects", "read_objects"]


@dataclass(frozen=True)
class Objects:
    """What was marked on a slide, and where somebody looked for it.

    Attributes:
        places_px: (n, 2) float64 x, y of every object, level-0 px in OpenSlide's frame.
        names: Class of every object.
        sides_px: (n,) longer side of the outline that was drawn, 0 for points, level-0 px.
        searched: The areas in which all objects are marked; empty where the file says nothing.
        left_out: By number of the feature, from 1: why it says nothing.
    """

    places_px: npt.NDArray[np.float64]
    names: tuple[str, ...]
    sides_px: npt.NDArray[np.float64]
    searched: tuple[BaseGeometry, ...]
    left_out: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def read_objects(path: Path, *, offset_px: tuple[float, float] = (0, 0)) -> Objects:
    """Reads points and outlines with a class, and areas without one.

    Every point of a Point or MultiPoint is an object; of an outline it is the centroid. Areas
    without a class are those that were searched.

    Args:
        path: GeoJSON file.
        offset_px: As of `read_shapes`.

    Raises:
        AnnotationError: As of `read_shapes`, or points without a class.
    """
    places: list[tuple[float, float]] = []
    names: list[str] = []
    sides: list[float] = []
    searched: list[BaseGeometry] = []
    left_out: dict[int, str] = {}
    for number, feature in enumerate(read_features(path), start=1):
        try:
            points = list(_points(feature))
            if points:
                name = class_name_of(feature.get("properties"))
                if name is None:
                    raise BadFeature("its points have no class")
                places += [(x + offset_px[0], y + offset_px[1]) for x, y in points]
                names += [name] * len(points)
                sides += [0.0] * len(points)
                continue
            shape = shape_of(feature, offset_px)
        except BadFeature as bad:
            raise bad.error(path, number) from None
        if isinstance(shape, str):
            left_out[number] = shape
            continue
        if shape.name is None:
            searched.append(shape.geometry)
            continue
        for part in shapely.get_parts(shape.geometry):
            left, top, right, bottom = part.bounds
            places.append((part.centroid.x, part.centroid.y))
            names.append(shape.name)
            sides.append(max(right - left, bottom - top))
    if not names and not searched:
        raise AnnotationError(
            f"{path.name} marks no object and no searched area",
            "Mark objects with points of a class, and where there are none, draw the area that "
            "was searched, without a class",
        )
    return Objects(
        np.array(places, np.float64).reshape(-1, 2),
        tuple(names),
        np.array(sides, np.float64),
        tuple(searched),
        left_out,
    )


def _points(feature: Any) -> Iterator[tuple[float, float]]:
    """The points of a feature; none where it is of another kind."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise BadFeature("it is not a GeoJSON feature")
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(geometry, dict) or kind not in ("Point", "MultiPoint"):
        return
    coordinates = geometry.get("coordinates")
    if kind == "Point":
        yield position_of(coordinates)
        return
    if not isinstance(coordinates, list):
        raise BadFeature("its MultiPoint has no list of points")
    yield from (position_of(position) for position in coordinates)
