"""Annotated areas from GeoJSON, as QuPath writes it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from xt_backend.errors import AnnotationError
from xt_backend.wording import counted

__all__ = ["MAX_BYTES", "Shape", "read_area", "read_shapes", "repair", "sift_features"]

MAX_BYTES = 256 * 2**20
"""Largest GeoJSON file that is read."""

_MAX_COORDINATE = 1e9
_MAX_DEPTH = 8
_KEPT = 0.01
_AREAS = {"Polygon", "MultiPolygon"}
_WITHOUT_AREA = {"Point", "MultiPoint", "LineString", "MultiLineString"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """One annotated area.

    Attributes:
        name: Its class, or None where it has none.
        geometry: Valid Polygon or MultiPolygon, level-0 px in OpenSlide's frame.
        note: What was changed while reading, e.g. a repaired outline; else empty.
    """

    name: str | None
    geometry: Polygon | MultiPolygon
    note: str = ""


def read_shapes(path: Path, *, offset_px: tuple[float, float] = (0, 0)) -> list[Shape]:
    """Reads a FeatureCollection, a list of features, one feature, or a bare geometry.

    Points, lines and features without geometry hold no area: they are left out, with a warning in
    the log. An outline that crosses itself is repaired where that hardly changes its area.

    Args:
        path: GeoJSON file.
        offset_px: (x, y) added to all coordinates, level-0 px. QuPath counts from the corner of
            the slide's bounds, so give ``slide.info.bounds_px[:2]`` for its files.

    Returns:
        The areas in the order of the file; empty if the file has no features.

    Raises:
        AnnotationError: Not there, not readable, not GeoJSON, no area in it, or a feature that
            cannot be used; the text names the file and the feature's number, from 1.
    """
    shapes, left_out = sift_features(path, offset_px=offset_px)
    for number, reason in left_out.items():
        _log.warning("%s, feature %d is left out: %s", path.name, number, reason)
    return shapes


def sift_features(
    path: Path, *, offset_px: tuple[float, float] = (0, 0)
) -> tuple[list[Shape], dict[int, str]]:
    """What `read_shapes` takes of a file, and what it leaves out.

    Args:
        path: GeoJSON file.
        offset_px: As of `read_shapes`.

    Returns:
        The areas, and the number of every other feature, from 1, with the reason.

    Raises:
        AnnotationError: As of `read_shapes`.
    """
    features = read_features(path)
    shapes: list[Shape] = []
    left_out: dict[int, str] = {}
    for number, feature in enumerate(features, start=1):
        try:
            shape = shape_of(feature, offset_px)
        except BadFeature as bad:
            raise bad.error(path, number) from None
        if isinstance(shape, str):
            left_out[number] = shape
            continue
        if shape.note:
            _log.warning("%s, feature %d: %s", path.name, number, shape.note)
        shapes.append(shape)
    if features and not shapes:
        raise _error(path, f"holds no area, only {counted(len(features), 'feature')} without one")
    return shapes, left_out


def read_area(path: Path, *, offset_px: tuple[float, float] = (0, 0)) -> BaseGeometry:
    """All areas of a GeoJSON file as one, level-0 px.

    Args:
        path: GeoJSON file.
        offset_px: As of `read_shapes`.

    Raises:
        AnnotationError: As of `read_shapes`; also for a file without any feature.
    """
    area = shapely.union_all([shape.geometry for shape in read_shapes(path, offset_px=offset_px)])
    if area.is_empty or area.area == 0:
        raise _error(path, "holds no area")
    return area


def repair(geometry: BaseGeometry) -> tuple[Polygon | MultiPolygon, str]:
    """A valid area for one whose outline crosses or touches itself.

    Args:
        geometry: Polygon or MultiPolygon.

    Returns:
        The area, and what was done to it (empty if nothing).

    Raises:
        AnnotationError: It cannot be repaired without changing its area by more than 1 %.
    """
    if geometry.is_valid and isinstance(geometry, Polygon | MultiPolygon):
        return geometry, ""
    reason = shapely.is_valid_reason(geometry).partition("[")[0].lower()
    repaired = _polygons_of(shapely.make_valid(geometry))
    before, after = geometry.area, repaired.area
    if not after or abs(before - after) > _KEPT * max(before, after):
        raise AnnotationError(
            f"the outline is not valid ({reason}), and which side of it is inside is unclear",
            "Draw it again without crossing its own outline",
        )
    return repaired, f"the outline was repaired ({reason})"


class BadFeature(Exception):
    """A feature that cannot be used."""

    def error(self, path: Path, number: int) -> AnnotationError:
        """What the user is told; features count from 1."""
        return AnnotationError(
            f"{path.name}, feature {number}: {self}",
            "Correct or remove this feature and export the annotations again",
        )


def read_features(path: Path) -> list[Any]:
    """The features of a GeoJSON file, not looked at yet.

    Raises:
        AnnotationError: As of `read_shapes`, for the file as a whole.
    """
    document = _load(path)
    if not isinstance(document, dict | list):
        raise _error(path, "holds no GeoJSON object")
    return _features(document, path)


def _error(path: Path, problem: str) -> AnnotationError:
    return AnnotationError(
        f"{path.name} {problem}", "Give a GeoJSON file with polygons, as QuPath exports it"
    )


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _error(path, f"has {size >> 20} MiB, more than {MAX_BYTES >> 20}")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise AnnotationError(f"{path.name} does not exist", "Check the path") from None
    except OSError as error:
        raise AnnotationError(
            f"{path.name} cannot be read: {error.strerror}", "Check the path and its permissions"
        ) from None
    except AnnotationError:
        raise
    except UnicodeDecodeError:
        raise _error(path, "is not text in UTF-8") from None
    except RecursionError:
        raise _error(path, "is nested too deeply") from None
    except ValueError as error:
        raise _error(path, f"is not valid JSON: {error}") from None


def _features(document: dict[str, Any] | list[Any], path: Path) -> list[Any]:
    if isinstance(document, list):
        return document
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise _error(path, "is a FeatureCollection without a list of features")
        return features
    if kind == "Feature":
        return [document]
    if isinstance(kind, str) and kind in _AREAS | _WITHOUT_AREA | {"GeometryCollection"}:
        return [{"type": "Feature", "geometry": document, "properties": {}}]
    raise _error(path, f"has the type {kind!r}, which is none of GeoJSON's")


def shape_of(feature: Any, offset_px: tuple[float, float]) -> Shape | str:
    """The shape, or why the feature has none."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise BadFeature("it is not a GeoJSON feature")
    name = class_name_of(feature.get("properties"))
    geometry = feature.get("geometry")
    if geometry is None:
        return "it has no geometry"
    polygons = list(_polygons(geometry, 0))
    notes = [polygon for polygon in polygons if isinstance(polygon, str)]
    areas = [polygon for polygon in polygons if isinstance(polygon, Polygon) and _has_area(polygon)]
    if not areas:
        return notes[0] if notes else "it has no area"
    whole = areas[0] if len(areas) == 1 else MultiPolygon(areas)
    try:
        geometry, note = repair(shapely.transform(whole, lambda xy: xy + offset_px))
    except AnnotationError as error:
        raise BadFeature(error.cause) from None
    return Shape(name, geometry, "; ".join([*([note] if note else []), *notes]))


def class_name_of(properties: Any) -> str | None:
    """``properties.classification`` as text; a derived class is joined as QuPath shows it."""
    if properties is None:
        return None
    if not isinstance(properties, dict):
        raise BadFeature("its properties are not an object")
    value = properties.get("classification")
    if isinstance(value, dict):
        value = value["names"] if "names" in value else value.get("name")
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = ": ".join(value)
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    raise BadFeature("its classification is neither a text nor an object with a name")


def _polygons(geometry: Any, depth: int) -> Iterator[Polygon | str]:
    """The polygons of a GeoJSON geometry, and a text for each member without area."""
    if not isinstance(geometry, dict) or depth > _MAX_DEPTH:
        raise BadFeature("its geometry is not a GeoJSON geometry")
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "GeometryCollection":
        members = geometry.get("geometries")
        if not isinstance(members, list):
            raise BadFeature("its GeometryCollection has no list of geometries")
        for member in members:
            yield from _polygons(member, depth + 1)
    elif kind == "Polygon":
        yield _polygon(coordinates)
    elif kind == "MultiPolygon":
        if not isinstance(coordinates, list):
            raise BadFeature("its MultiPolygon has no list of polygons")
        yield from (_polygon(part) for part in coordinates)
    elif isinstance(kind, str) and kind in _WITHOUT_AREA:
        yield f"a {kind} has no area"
    else:
        raise BadFeature(f"its geometry has the type {kind!r}, which is none of GeoJSON's")


def _polygon(rings: Any) -> Polygon:
    if not isinstance(rings, list):
        raise BadFeature("its polygon has no list of rings")
    points = [_ring(ring) for ring in rings]
    return Polygon(points[0], points[1:]) if points else Polygon()


def _ring(ring: Any) -> list[tuple[float, float]]:
    if not isinstance(ring, list) or len(ring) < 3:
        raise BadFeature("an outline has fewer than 3 points")
    return [position_of(position) for position in ring]


def position_of(position: Any) -> tuple[float, float]:
    """X and y of a GeoJSON position."""
    if not isinstance(position, list) or len(position) < 2:
        raise BadFeature("a point is not a list of x and y")
    for value in position[:2]:
        # bool is an int to Python, not a number to GeoJSON.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadFeature(f"the coordinate {value!r:.40} is not a number")
        if not math.isfinite(value) or abs(value) > _MAX_COORDINATE:
            raise BadFeature(f"the coordinate {float(value):g} px is not on any slide")
    return float(position[0]), float(position[1])


def _has_area(polygon: Polygon) -> bool:
    # The lobes of a figure of eight may cancel out: it is broken, not without area.
    return polygon.area > 0 or _polygons_of(shapely.make_valid(polygon)).area > 0


def _polygons_of(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    parts = [geometry, *getattr(geometry, "geoms", [])]
    flat = [p for part in parts for p in shapely.get_parts(part) if isinstance(p, Polygon)]
    merged = shapely.union_all(np.array(flat, dtype=object))
    return merged if isinstance(merged, Polygon | MultiPolygon) else Polygon()
